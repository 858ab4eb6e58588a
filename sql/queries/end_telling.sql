-- Notes that every board has been told of what a user's row said at a revision.
-- Params: $1 user text, $2 revision int8
-- Returns: none
UPDATE users
SET told_revision = $2
WHERE user_id = $1 AND told_revision < $2 AND revision >= $2 -- it may be another life of the user, after an erasure
