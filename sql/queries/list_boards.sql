-- Lists boards in the order of their ids, from after a given one.
-- Params: $1 after text ('' for the start), $2 limit int8
-- Returns: many (board_id text, epoch text, seq int8, players int8, title text, windows text[], ties text, timezone text, created_at timestamptz, operator text, floor int8, filling text[])
SELECT b.board_id, b.epoch, b.seq, b.players, b.title, b.windows, b.ties, b.timezone, b.created_at, b.operator, b.floor,
       coalesce(f.windows, '{}') AS filling
FROM boards b
LEFT JOIN fills f ON f.board_id = b.board_id
WHERE b.board_id > $1
ORDER BY b.board_id
LIMIT $2
