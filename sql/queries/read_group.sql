-- Reads what names the state of a group's list, and how many are on it.
-- Params: $1 board text, $2 group text
-- Returns: maybe (revision text, members int4)
SELECT revision, members
FROM groups
WHERE board_id = $1 AND group_id = $2
