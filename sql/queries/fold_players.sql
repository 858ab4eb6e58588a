-- Notes how the ids of some users are compared.
-- Params: $1 users text[], $2 folded text[]
-- Returns: none
UPDATE players p
SET folded = a.folded
FROM unnest($1::text[], $2::text[]) AS a (user_id, folded)
WHERE p.user_id = a.user_id AND p.folded IS NULL
