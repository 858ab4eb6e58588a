-- Closes an empty board for an import; see the function's own header.
-- Params: $1 board text
-- Returns: one (outcome text, stage text, lines int8, events int8, digest text)
SELECT outcome, stage, lines, events, digest
FROM begin_import($1)
