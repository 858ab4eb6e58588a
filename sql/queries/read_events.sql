-- Reads a board's events after a position, in order.
-- Params: $1 board text, $2 after int8, $3 limit int8
-- Returns: many (seq int8, user_id text, action_id text, points int8, score_after int8, at timestamptz)
SELECT seq, user_id, action_id, points, score_after, at
FROM ledger
WHERE board_id = $1 AND seq > $2
ORDER BY seq
LIMIT $3
