-- Forgets what is known of a user beyond scores.
-- Params: $1 user text
-- Returns: none
DELETE FROM users
WHERE user_id = $1
