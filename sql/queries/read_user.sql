-- Reads what is known of a user beyond scores.
-- Params: $1 user text
-- Returns: maybe (user_id text, name text, hidden bool, revision int8, is_told bool)
SELECT user_id, display_name AS name, hidden, revision, revision = told_revision AS is_told
FROM users
WHERE user_id = $1
