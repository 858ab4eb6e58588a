-- Reads the scores that some users had at a position of the ledger, of those who were shown then.
-- Params: $1 board text, $2 users text[], $3 seq int8
-- Returns: many (user_id text, score int8)
SELECT asked.user_id, event.score_after AS score
FROM unnest($2::text[]) AS asked (user_id)
CROSS JOIN LATERAL (
    SELECT l.score_after, l.hidden
    FROM ledger l
    WHERE l.board_id = $1 AND l.user_id = asked.user_id AND l.seq <= $3
    ORDER BY l.at DESC, l.seq DESC
    LIMIT 1
) event
WHERE NOT event.hidden
ORDER BY asked.user_id
