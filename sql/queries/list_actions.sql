-- Lists a board's actions, disabled ones too, in the order of their ids.
-- Params: $1 board text, $2 limit int8
-- Returns: many (action_id text, points int8, cooldown_seconds int4, daily_cap int4, enabled bool, points_min int8, points_max int8)
SELECT action_id, points, cooldown_seconds, daily_cap, enabled, points_min, points_max
FROM actions
WHERE board_id = $1
ORDER BY action_id
LIMIT $2
