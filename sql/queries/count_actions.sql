-- Counts a board's actions, up to a bound.
-- Params: $1 board text, $2 bound int8
-- Returns: one (actions int8)
SELECT count(*) AS actions
FROM (SELECT 1 FROM actions WHERE board_id = $1 LIMIT $2) bounded
