-- Finds another user whose id looks like a name.
-- Params: $1 user text, $2 name text, $3 folded text
-- Returns: maybe (user_id text)
SELECT p.user_id
FROM (
    SELECT alike.user_id FROM players alike WHERE alike.folded = $3
    UNION ALL
    SELECT same.user_id FROM players same WHERE same.user_id = $2 -- whether it was folded already or not
) p
WHERE p.user_id <> $1
LIMIT 1
