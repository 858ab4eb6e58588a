-- Reads a page of a board from an offset, in the board's order.
-- Params: $1 board text, $2 window text, $3 period text, $4 offset int8, $5 limit int8
-- Returns: many (user_id text, score int8, reached_seq int8, name text)
SELECT t.user_id, t.score, t.reached_seq, u.display_name AS name
FROM (
    SELECT user_id, score, reached_seq
    FROM totals
    WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
    ORDER BY (-score), user_id
    OFFSET $4
    LIMIT $5
) t
LEFT JOIN users u ON u.user_id = t.user_id
ORDER BY (-t.score), t.user_id
