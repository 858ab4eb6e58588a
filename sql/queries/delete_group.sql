-- Deletes a group of a board; see the function's own header.
-- Params: $1 board text, $2 group text
-- Returns: one (is_deleted bool)
SELECT is_deleted
FROM delete_group($1, $2)
