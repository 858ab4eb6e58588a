-- Makes the users of an imported board known; see the function's own header.
-- Params: $1 board text
-- Returns: many (board_id text, events int8)
SELECT k.board_id, count(*) AS events
FROM know_users($1) k (board_id)
GROUP BY k.board_id
