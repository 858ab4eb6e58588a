-- Creates a board or changes its settings; its ledger is untouched.
-- Params: $1 board text, $2 title text, $3 windows text[], $4 ties text, $5 timezone text
-- Returns: one (created bool, board_id text, epoch text, seq int8, players int8, title text, windows text[], ties text, timezone text, created_at timestamptz)
INSERT INTO boards AS b (board_id, title, windows, ties, timezone)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (board_id) DO UPDATE
SET title = excluded.title, windows = excluded.windows, ties = excluded.ties, timezone = excluded.timezone
RETURNING (xmax = 0) AS created, board_id, epoch, seq, players, title, windows, ties, timezone, created_at
