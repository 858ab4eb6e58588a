-- Gives a user a display name (null: none); boards are yet to be told, unless it was this one already.
-- Params: $1 user text, $2 name text
-- Returns: one (user_id text, name text, hidden bool, revision int8, is_told bool)
INSERT INTO users AS u (user_id, display_name, revision)
VALUES ($1, $2, 1)
ON CONFLICT (user_id) DO UPDATE
SET display_name = excluded.display_name,
    revision = u.revision + CASE WHEN u.display_name IS DISTINCT FROM excluded.display_name THEN 1 ELSE 0 END
RETURNING user_id, display_name AS name, hidden, revision, revision = told_revision AS is_told
