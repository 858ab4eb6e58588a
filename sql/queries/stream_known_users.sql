-- Reads what is known, beyond scores, of the users who have a total on a board; used with a cursor.
-- Params: $1 board text
-- Returns: many (user_id text, display_name text, hidden bool)
SELECT u.user_id, u.display_name, u.hidden
FROM users u
JOIN totals t ON t.user_id = u.user_id
WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity'
ORDER BY u.user_id
