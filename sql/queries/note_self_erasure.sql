-- Notes that a user has erased itself just now, and forgets those for whom that does not matter any more.
-- Params: $1 digest bytea, $2 pause_s float8
-- Returns: none
WITH gone AS (
    DELETE FROM self_erasures
    WHERE at <= clock_timestamp() - make_interval(secs => $2) AND digest <> $1
)
INSERT INTO self_erasures (digest, at)
VALUES ($1, clock_timestamp())
ON CONFLICT (digest) DO UPDATE SET at = excluded.at
