-- Lists users whose total is not the sum of their events, or whose last event says another score.
-- Params: $1 board text, $2 limit int8
-- Returns: many (user_id text, ledger_sum numeric, last_score_after int8, ledger_events int8, total_score int8, total_submissions int8)
SELECT coalesce(l.user_id, t.user_id) AS user_id, l.ledger_sum, l.last_score_after, l.ledger_events,
       t.score AS total_score, t.submissions AS total_submissions
FROM (
    SELECT user_id, sum(points) AS ledger_sum, count(*) AS ledger_events, max(seq) AS last_seq,
           (array_agg(score_after ORDER BY seq DESC))[1] AS last_score_after
    FROM ledger
    WHERE board_id = $1
    GROUP BY user_id
) l
FULL JOIN (
    SELECT user_id, score, submissions, reached_seq
    FROM totals
    WHERE board_id = $1 AND time_window = 'all'
) t ON t.user_id = l.user_id
WHERE l.ledger_sum IS DISTINCT FROM t.score
   OR l.last_score_after IS DISTINCT FROM t.score
   OR l.ledger_events IS DISTINCT FROM t.submissions
   OR l.last_seq IS DISTINCT FROM t.reached_seq
ORDER BY 1
LIMIT $2
