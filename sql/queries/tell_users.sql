-- Tells other boards of some users of an imported one; see the function's own header.
-- Params: $1 board text, $2 limit int8
-- Returns: one (users int8, boards text[])
SELECT users, boards
FROM tell_users($1, $2)
