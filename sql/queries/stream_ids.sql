-- Reads the ids of all users with a total on a board; used with a cursor.
-- Params: $1 board text
-- Returns: many (user_id text)
SELECT t.user_id
FROM totals t
WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity'
ORDER BY t.user_id
