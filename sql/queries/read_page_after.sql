-- Reads a page of a board from after an entry, which need not exist any more.
-- Params: $1 board text, $2 score int8, $3 user text, $4 limit int8
-- Returns: many (user_id text, score int8)
SELECT user_id, score
FROM totals
WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND submissions > 0
  AND ((-score), user_id) > ((-$2::int8), $3)
ORDER BY (-score), user_id
LIMIT $4
