-- Does a slice of filling a board's new windows from its ledger; see the function's own header.
-- Params: $1 board text, $2 limit int8
-- Returns: one (is_done bool)
SELECT is_done
FROM fill_windows($1, $2)
