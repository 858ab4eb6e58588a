-- Makes the users of an imported board known; see the function's own header.
-- Params: $1 board text
-- Returns: one (events int8)
SELECT know_users($1) AS events
