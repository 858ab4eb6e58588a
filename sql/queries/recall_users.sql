-- Knows users again who were hidden when they were erased; see the function's own header.
-- Params: $1 users text[], $2 digests bytea[]
-- Returns: one (recalled int8)
SELECT recall_users($1, $2) AS recalled
