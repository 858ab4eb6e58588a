-- Lists the members of a group in the order of their ids, from after a given one; hidden ones where these are asked for.
-- Params: $1 board text, $2 group text, $3 after text ('' for the start), $4 limit int8, $5 with_hidden bool
-- Returns: many (user_id text)
SELECT m.user_id
FROM group_members m
WHERE m.board_id = $1 AND m.group_id = $2 AND m.user_id > $3 AND ($5 OR NOT is_hidden(m.board_id, m.user_id))
ORDER BY m.user_id
LIMIT $4
