-- Notes how much of a file is in.
-- Params: $1 board text, $2 lines int8, $3 events int8, $4 digest text
-- Returns: none
UPDATE imports
SET lines = $2, events = $3, digest = $4
WHERE board_id = $1
