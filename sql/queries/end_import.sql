-- Forgets an import that is done.
-- Params: $1 board text
-- Returns: none
DELETE FROM imports
WHERE board_id = $1
