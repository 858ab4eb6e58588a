-- Lists boards in the order of their ids, from after a given one.
-- Params: $1 after text ('' for the start), $2 limit int8
-- Returns: many (board_id text, epoch text, seq int8, players int8, title text, windows text[], ties text, timezone text, created_at timestamptz)
SELECT board_id, epoch, seq, players, title, windows, ties, timezone, created_at
FROM boards
WHERE board_id > $1
ORDER BY board_id
LIMIT $2
