-- Reads for how many seconds more a user who has erased itself may not do it again.
-- Params: $1 digest bytea, $2 pause_s float8
-- Returns: maybe (left_s float8)
SELECT extract(epoch FROM at - clock_timestamp())::float8 + $2 AS left_s
FROM self_erasures
WHERE digest = $1 AND at > clock_timestamp() - make_interval(secs => $2)
