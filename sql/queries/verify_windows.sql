-- Lists the totals of periods, of the users of one part of several, by hash, that are not what their events come to.
-- Params: $1 board text, $2 part int8 (from 0), $3 parts int8, $4 limit int8
-- Returns: many (user_id text, time_window text, period text, ledger_score numeric, ledger_events int8, total_score int8, total_submissions int8)
SELECT coalesce(e.user_id, t.user_id) AS user_id, coalesce(e.name, t.time_window) AS time_window,
       coalesce(e.period, t.period)::text AS period, e.score AS ledger_score, e.events AS ledger_events,
       t.score AS total_score, t.submissions AS total_submissions
FROM (
    SELECT l.user_id, w.name, period_of(w.name, b.timezone, coalesce(l.counted_at, l.at)) AS period,
           count(*) FILTER (WHERE l.kind = 'score') AS events,
           CASE b.operator
               WHEN 'sum' THEN sum(l.points)
               WHEN 'best' THEN coalesce(max(coalesce(l.value, l.points)) FILTER (WHERE l.stands), 0)
               ELSE coalesce((array_agg(coalesce(l.value, l.points) ORDER BY l.seq DESC) FILTER (WHERE l.stands))[1], 0)
           END AS score
    FROM boards b
    CROSS JOIN unnest(array_remove(b.windows, 'all')) w (name)
    JOIN (
        SELECT s.board_id, s.user_id, s.seq, s.at, s.counted_at, s.kind, s.points, s.value,
               s.kind = 'score' AND r.revokes IS NULL AS stands
        FROM ledger s
        LEFT JOIN ledger r ON r.board_id = s.board_id AND r.revokes = s.seq
        WHERE s.board_id = $1 AND s.kind IN ('score', 'revoke') AND abs(hashtext(s.user_id)::int8) % $3 = $2
    ) l ON l.board_id = b.board_id
    WHERE b.board_id = $1
    GROUP BY l.user_id, w.name, period_of(w.name, b.timezone, coalesce(l.counted_at, l.at)), b.operator
) e
FULL JOIN (
    SELECT s.user_id, s.time_window, s.period, s.score, s.submissions
    FROM boards b
    JOIN totals s ON s.board_id = b.board_id AND s.time_window = ANY (array_remove(b.windows, 'all'))
    WHERE b.board_id = $1 AND abs(hashtext(s.user_id)::int8) % $3 = $2
) t ON t.user_id = e.user_id AND t.time_window = e.name AND t.period = e.period
WHERE e.score IS DISTINCT FROM t.score OR e.events IS DISTINCT FROM t.submissions
ORDER BY 1, 2, 3
LIMIT $4
