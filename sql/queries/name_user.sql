-- Tells a board a user's display name; see the function's own header.
-- Params: $1 board text, $2 user text
-- Returns: maybe (epoch text, seq int8, at timestamptz)
SELECT epoch, seq, at
FROM name_user($1, $2)
