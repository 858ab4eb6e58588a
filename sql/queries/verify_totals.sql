-- Lists the users of a slice whose total is not the sum of their events, or whose last event says another score.
-- Params: $1 board text, $2 after text (a user id), $3 through text (a user id), $4 limit int8
-- Returns: many (user_id text, ledger_sum numeric, last_score_after int8, ledger_events int8, total_score int8, total_submissions int8)
SELECT coalesce(l.user_id, t.user_id) AS user_id, l.ledger_sum, l.last_event[2] AS last_score_after, l.ledger_events,
       t.score AS total_score, t.submissions AS total_submissions
FROM (
    SELECT user_id, sum(points) AS ledger_sum, count(*) AS ledger_events,
           -- The pair with the highest seq. Joining the last event instead takes twice as long.
           max(ARRAY[seq, score_after]) AS last_event
    FROM ledger
    WHERE board_id = $1 AND user_id > $2 AND user_id <= $3
    GROUP BY user_id
) l
FULL JOIN (
    SELECT user_id, score, submissions, reached_seq
    FROM totals
    WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND user_id > $2 AND user_id <= $3
) t ON t.user_id = l.user_id
WHERE l.ledger_sum IS DISTINCT FROM t.score
   OR l.last_event[2] IS DISTINCT FROM t.score
   OR l.ledger_events IS DISTINCT FROM t.submissions
   OR l.last_event[1] IS DISTINCT FROM t.reached_seq
ORDER BY 1
LIMIT $4
