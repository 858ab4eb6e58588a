-- Hides a user on one board alone, or ends that; see the function's own header.
-- Params: $1 board text, $2 user text, $3 hidden bool, $4 digest bytea
-- Returns: maybe (name text, hidden bool, is_known bool, epoch text, seq int8, at timestamptz)
SELECT name, hidden, is_known, epoch, seq, at
FROM hide_on_board($1, $2, $3, $4)
