-- Reads every total of a window's period, those who are shown, by score; used with a cursor, in one snapshot with the
-- board's head.
-- Params: $1 board text, $2 window text, $3 period text
-- Returns: many (user_id text, score int8, reached_seq int8, name text)
SELECT t.user_id, t.score, t.reached_seq, u.display_name AS name
FROM totals t
LEFT JOIN users u ON u.user_id = t.user_id
WHERE t.board_id = $1 AND t.time_window = $2 AND t.period = $3::text::date AND NOT t.hidden
ORDER BY (-t.score), t.user_id
