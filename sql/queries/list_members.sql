-- Lists the members of a group in the order of their ids, from after a given one.
-- Params: $1 board text, $2 group text, $3 after text ('' for the start), $4 limit int8
-- Returns: many (user_id text)
SELECT user_id
FROM group_members
WHERE board_id = $1 AND group_id = $2 AND user_id > $3
ORDER BY user_id
LIMIT $4
