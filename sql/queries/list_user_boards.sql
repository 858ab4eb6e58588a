-- Lists the boards on which a user has a score, hidden or not: one look at each board.
-- Params: $1 user text
-- Returns: many (board_id text)
SELECT b.board_id
FROM boards b
WHERE EXISTS (
    SELECT 1 FROM totals t
    WHERE t.board_id = b.board_id AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = $1
)
ORDER BY b.board_id
