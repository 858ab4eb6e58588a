-- Lists the users of one part of several, by hash, whose total is not the sum of their events, or does not name their last event and its
-- score. Joined before grouped: grouping alone can't tell the last event's score without an array or a sort a user.
-- A part reads the ledger in its own order: looking up each user's events is several times slower on large boards.
-- Params: $1 board text, $2 part int8 (from 0), $3 parts int8, $4 limit int8
-- Returns: many (user_id text, ledger_sum numeric, last_score_after int8, ledger_events int8, total_score int8, total_submissions int8)
SELECT coalesce(e.user_id, t.user_id) AS user_id, sum(e.points) AS ledger_sum,
       max(e.score_after) FILTER (WHERE e.seq = t.reached_seq) AS last_score_after, count(e.seq) AS ledger_events,
       t.score AS total_score, t.submissions AS total_submissions
FROM (
    SELECT user_id, seq, points, score_after
    FROM ledger
    WHERE board_id = $1 AND abs(hashtext(user_id)::int8) % $3 = $2
) e
FULL JOIN (
    SELECT user_id, score, submissions, reached_seq
    FROM totals
    WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity'
      AND abs(hashtext(user_id)::int8) % $3 = $2
) t ON t.user_id = e.user_id
GROUP BY 1, t.score, t.submissions, t.reached_seq
HAVING sum(e.points) IS DISTINCT FROM t.score
   OR max(e.score_after) FILTER (WHERE e.seq = t.reached_seq) IS DISTINCT FROM t.score
   OR count(e.seq) IS DISTINCT FROM t.submissions
   OR max(e.seq) IS DISTINCT FROM t.reached_seq
ORDER BY 1
LIMIT $4
