-- Finds how far a slice of about so many events goes, in the order of users.
-- Params: $1 board text, $2 after text (a user id), $3 limit int8
-- Returns: one (events int8, last_user text)
SELECT count(*) AS events, max(slice.user_id) AS last_user
FROM (
    SELECT user_id
    FROM ledger
    WHERE board_id = $1 AND user_id > $2
    ORDER BY user_id
    LIMIT $3
) slice
