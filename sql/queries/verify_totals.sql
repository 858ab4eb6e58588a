-- Lists the users of one part of several, by hash, whose total is not the sum of their events, or does not name the event
-- that made it what it is and its score, or is hidden otherwise than the last of them says. Joined before grouped:
-- grouping alone can't tell an event's score without an array or a sort a user.
-- A part reads the ledger in its own order: looking up each user's events is several times slower on large boards.
-- Params: $1 board text, $2 part int8 (from 0), $3 parts int8, $4 limit int8
-- Returns: many (user_id text, ledger_sum numeric, reached_score int8, ledger_events int8, total_score int8, total_submissions int8)
SELECT coalesce(e.user_id, t.user_id) AS user_id, sum(e.points) AS ledger_sum,
       max(e.score_after) FILTER (WHERE e.seq = t.reached_seq) AS reached_score,
       count(*) FILTER (WHERE e.kind IN ('score', 'opening')) AS ledger_events,
       t.score AS total_score, t.submissions AS total_submissions
FROM (
    SELECT user_id, seq, kind, points, score_after, hidden
    FROM ledger
    WHERE board_id = $1 AND user_id IS NOT NULL AND abs(hashtext(user_id)::int8) % $3 = $2
) e
FULL JOIN (
    SELECT user_id, score, submissions, reached_seq, hidden
    FROM totals
    WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity'
      AND abs(hashtext(user_id)::int8) % $3 = $2
) t ON t.user_id = e.user_id
GROUP BY 1, t.score, t.submissions, t.reached_seq, t.hidden
HAVING sum(e.points) IS DISTINCT FROM t.score
   OR max(e.score_after) FILTER (WHERE e.seq = t.reached_seq) IS DISTINCT FROM t.score
   OR count(*) FILTER (WHERE e.kind IN ('score', 'opening')) IS DISTINCT FROM t.submissions
   OR coalesce(max(e.seq) FILTER (WHERE e.points <> 0), min(e.seq)) IS DISTINCT FROM t.reached_seq
   OR (coalesce(max(e.seq) FILTER (WHERE e.hidden), 0) = max(e.seq)) IS DISTINCT FROM t.hidden
ORDER BY 1
LIMIT $4
