-- Reads a page of a board from an offset, in the board's order.
-- Params: $1 board text, $2 offset int8, $3 limit int8
-- Returns: many (user_id text, score int8)
SELECT user_id, score
FROM totals
WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND submissions > 0
ORDER BY (-score), user_id
OFFSET $2
LIMIT $3
