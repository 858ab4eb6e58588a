-- Makes a board show or hide a user as the user's own row says; see the function's own header.
-- Params: $1 board text, $2 user text
-- Returns: maybe (epoch text, seq int8, at timestamptz)
SELECT epoch, seq, at
FROM show_user($1, $2)
