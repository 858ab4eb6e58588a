-- Reads where the ledgers of some boards stand.
-- Params: $1 boards text[]
-- Returns: many (board_id text, epoch text, seq int8)
SELECT board_id, epoch, seq
FROM boards
WHERE board_id = ANY ($1::text[])
ORDER BY board_id
