-- Puts another id in the place of a user's on a board; see the function's own header.
-- Params: $1 board text, $2 user text, $3 pseudonym text
-- Returns: maybe (epoch text, seq int8, at timestamptz)
SELECT epoch, seq, at
FROM erase_user($1, $2, $3)
