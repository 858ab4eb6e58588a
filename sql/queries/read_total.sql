-- Reads a user's total in a window's period, if the user is not hidden.
-- Params: $1 board text, $2 window text, $3 period text, $4 user text
-- Returns: maybe (score int8, reached_seq int8, submissions int8, first_at timestamptz, last_at timestamptz)
SELECT t.score, t.reached_seq, t.submissions, t.first_at, t.last_at
FROM (
    SELECT score, reached_seq, submissions, first_at, last_at, hidden
    FROM totals
    WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND user_id = $4
    LIMIT 1
) t
WHERE NOT t.hidden
