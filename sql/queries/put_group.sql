-- Makes a group of a board have these members and no others; see the function's own header.
-- Params: $1 board text, $2 group text, $3 members text[], $4 groups_max int8
-- Returns: one (outcome text)
SELECT outcome
FROM put_group($1, $2, $3, $4)
