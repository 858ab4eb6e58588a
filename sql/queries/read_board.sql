-- Reads one board.
-- Params: $1 board text
-- Returns: maybe (board_id text, epoch text, seq int8, players int8, title text, windows text[], ties text, timezone text, created_at timestamptz)
SELECT board_id, epoch, seq, players, title, windows, ties, timezone, created_at
FROM boards
WHERE board_id = $1
