-- Forgets what is known of a user beyond scores; see the function's own header.
-- Params: $1 user text, $2 digest bytea
-- Returns: none
SELECT FROM forget_user($1, $2)
