-- Disables an action; history keeps it.
-- Params: $1 board text, $2 action text
-- Returns: maybe (action_id text, points int8, cooldown_seconds int4, daily_cap int4, enabled bool, points_min int8, points_max int8)
UPDATE actions
SET enabled = false
WHERE board_id = $1 AND action_id = $2
RETURNING action_id, points, cooldown_seconds, daily_cap, enabled, points_min, points_max
