-- Reads one board.
-- Params: $1 board text
-- Returns: maybe (board_id text, epoch text, seq int8, players int8, title text, windows text[], ties text, timezone text, created_at timestamptz, operator text, floor int8, filling text[])
SELECT b.board_id, b.epoch, b.seq, b.players, b.title, b.windows, b.ties, b.timezone, b.created_at, b.operator, b.floor,
       coalesce(f.windows, '{}') AS filling
FROM boards b
LEFT JOIN fills f ON f.board_id = b.board_id
WHERE b.board_id = $1
