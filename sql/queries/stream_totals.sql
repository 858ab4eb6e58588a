-- Reads every total of a board in its order; used with a cursor, in one snapshot with the board's head.
-- Params: $1 board text
-- Returns: many (user_id text, score int8)
SELECT user_id, score
FROM totals
WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND submissions > 0
ORDER BY (-score), user_id
