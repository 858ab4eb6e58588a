-- Counts the members of a group who are hidden on its board.
-- Params: $1 board text, $2 group text
-- Returns: one (hidden int8)
SELECT count(*) AS hidden
FROM group_members m
WHERE m.board_id = $1 AND m.group_id = $2 AND is_hidden(m.board_id, m.user_id)
