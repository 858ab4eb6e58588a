-- Reads a page from after a place of a board on which who reached a score earlier is ahead.
-- Params: $1 board text, $2 window text, $3 period text, $4 score int8, $5 reached int8, $6 limit int8
-- Returns: many (user_id text, score int8, reached_seq int8, name text)
SELECT t.user_id, t.score, t.reached_seq, u.display_name AS name
FROM (
    SELECT user_id, score, reached_seq
    FROM totals
    WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
      AND (-score) >= (-$4::int8) AND ((-score), reached_seq) > ((-$4::int8), $5)
    ORDER BY (-score), reached_seq
    LIMIT $6
) t
LEFT JOIN users u ON u.user_id = t.user_id
ORDER BY (-t.score), t.reached_seq
