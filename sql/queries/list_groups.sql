-- Lists the groups of a board in the order of their ids, from after a given one.
-- Params: $1 board text, $2 after text ('' for the start), $3 limit int8
-- Returns: many (group_id text, members int4, revision text)
SELECT group_id, members, revision
FROM groups
WHERE board_id = $1 AND group_id > $2
ORDER BY group_id
LIMIT $3
