-- Makes the totals of a window's periods of an imported board that counts sums. Those of everything are there.
-- Params: $1 board text, $2 window text, $3 timezone text
-- Returns: none
INSERT INTO totals (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at, hidden)
SELECT $1, $2, e.period, e.user_id, e.score, e.reached_seq, e.submissions, e.first_at, e.last_at,
       e.user_id IN (SELECT t.user_id FROM totals t
                     WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity' AND t.hidden)
FROM (
    SELECT period_of($2, $3, coalesce(l.counted_at, l.at)) AS period, l.user_id, sum(l.points)::int8 AS score,
           coalesce(max(l.seq) FILTER (WHERE l.points <> 0), min(l.seq)) AS reached_seq,
           count(*) FILTER (WHERE l.kind = 'score') AS submissions, min(l.at) AS first_at,
           coalesce(max(l.at) FILTER (WHERE l.kind = 'score'), min(l.at)) AS last_at
    FROM ledger l
    WHERE l.board_id = $1 AND l.kind IN ('score', 'revoke')
    GROUP BY period_of($2, $3, coalesce(l.counted_at, l.at)), l.user_id
) e
ORDER BY e.period, e.user_id
