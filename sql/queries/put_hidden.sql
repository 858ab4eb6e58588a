-- Hides a user or shows one again; boards are yet to be told, unless it was so already.
-- Params: $1 user text, $2 hidden bool
-- Returns: one (user_id text, name text, hidden bool, revision int8, is_told bool)
INSERT INTO users AS u (user_id, hidden, revision)
VALUES ($1, $2, 1)
ON CONFLICT (user_id) DO UPDATE
SET hidden = excluded.hidden, revision = u.revision + CASE WHEN u.hidden <> excluded.hidden THEN 1 ELSE 0 END
RETURNING user_id, display_name AS name, hidden, revision, revision = told_revision AS is_told
