-- Creates an action or changes it; events already recorded keep their points.
-- Params: $1 board text, $2 action text, $3 points int8, $4 cooldown_seconds int4, $5 daily_cap int4, $6 enabled bool, $7 points_min int8, $8 points_max int8
-- Returns: one (created bool, action_id text, points int8, cooldown_seconds int4, daily_cap int4, enabled bool, points_min int8, points_max int8)
INSERT INTO actions AS a (board_id, action_id, points, cooldown_seconds, daily_cap, enabled, points_min, points_max)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (board_id, action_id) DO UPDATE
SET points = excluded.points, cooldown_seconds = excluded.cooldown_seconds, daily_cap = excluded.daily_cap,
    enabled = excluded.enabled, points_min = excluded.points_min, points_max = excluded.points_max
RETURNING (xmax = 0) AS created, action_id, points, cooldown_seconds, daily_cap, enabled, points_min, points_max
