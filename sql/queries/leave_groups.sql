-- Takes a user out of every group; see the function's own header.
-- Params: $1 user text
-- Returns: one (groups_left int8)
SELECT groups_left
FROM leave_groups($1)
