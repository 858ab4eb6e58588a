-- Reads the total of a hidden user in a window's period.
-- Params: $1 board text, $2 window text, $3 period text, $4 user text
-- Returns: maybe (name text, score int8, submissions int8, first_at timestamptz, last_at timestamptz)
SELECT u.display_name AS name, t.score, t.submissions, t.first_at, t.last_at
FROM (
    SELECT user_id, score, submissions, first_at, last_at, hidden
    FROM totals
    WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND user_id = $4
    LIMIT 1
) t
LEFT JOIN users u ON u.user_id = t.user_id
WHERE t.hidden
