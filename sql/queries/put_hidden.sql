-- Hides a user everywhere or shows one again; see the function's own header.
-- Params: $1 user text, $2 hidden bool, $3 digest bytea
-- Returns: maybe (user_id text, name text, hidden bool, revision int8, is_told bool)
SELECT user_id, display_name AS name, hidden, revision, revision = told_revision AS is_told
FROM put_hidden($1, $2, $3)
