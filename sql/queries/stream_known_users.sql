-- Reads what is known, beyond scores, of the users who have a total on a board; used with a cursor.
-- Params: $1 board text
-- Returns: many (user_id text, display_name text, hidden bool, hidden_here bool)
SELECT u.user_id, u.display_name, u.hidden, h.user_id IS NOT NULL AS hidden_here
FROM users u
JOIN totals t ON t.user_id = u.user_id
LEFT JOIN hidden_on_boards h ON h.board_id = t.board_id AND h.user_id = u.user_id
WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity'
ORDER BY u.user_id
