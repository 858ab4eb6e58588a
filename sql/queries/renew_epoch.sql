-- Gives a board a new epoch, because its ledger was replaced by an older one; once, however many servers notice.
-- Params: $1 board text, $2 epoch text (the one that ended)
-- Returns: maybe (epoch text)
UPDATE boards
SET epoch = left(replace(gen_random_uuid()::text, '-', ''), 8)
WHERE board_id = $1 AND epoch = $2
RETURNING epoch
