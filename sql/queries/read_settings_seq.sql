-- Reads since which seq a board is set up as it is.
-- Params: $1 board text
-- Returns: maybe (settings_seq int8)
SELECT settings_seq
FROM boards
WHERE board_id = $1
