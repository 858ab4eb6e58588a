-- Lists some users whose ids are yet to be folded.
-- Params: $1 limit int8
-- Returns: many (user_id text)
SELECT user_id
FROM players
WHERE folded IS NULL
LIMIT $1
