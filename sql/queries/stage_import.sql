-- Notes what is to be done next of an import.
-- Params: $1 board text, $2 stage text
-- Returns: none
UPDATE imports
SET stage = $2
WHERE board_id = $1
