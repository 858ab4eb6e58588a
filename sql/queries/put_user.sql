-- Gives a user a display name (null: none); see the function's own header.
-- Params: $1 user text, $2 name text, $3 digest bytea
-- Returns: one (user_id text, name text, hidden bool, revision int8, is_told bool)
SELECT user_id, display_name AS name, hidden, revision, revision = told_revision AS is_told
FROM put_user($1, $2, $3)
