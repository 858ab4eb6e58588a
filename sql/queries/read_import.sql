-- Reads where an unfinished import into a board stands.
-- Params: $1 board text
-- Returns: maybe (stage text, lines int8, events int8, digest text)
SELECT stage, lines, events, digest
FROM imports
WHERE board_id = $1
