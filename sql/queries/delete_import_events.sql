-- Deletes events up to a seq of a board whose import is being discarded.
-- Params: $1 board text, $2 through int8
-- Returns: none
DELETE FROM ledger
WHERE board_id = $1 AND seq <= $2 AND EXISTS (SELECT 1 FROM imports i WHERE i.board_id = $1 AND i.stage = 'discarding')
