-- Finds a user who has more than one event on a board, and the first and the last of them.
-- Params: $1 board text
-- Returns: maybe (user_id text, first_seq int8, last_seq int8)
SELECT user_id, min(seq) AS first_seq, max(seq) AS last_seq
FROM ledger
WHERE board_id = $1
GROUP BY user_id
HAVING count(*) > 1
ORDER BY max(seq)
LIMIT 1
