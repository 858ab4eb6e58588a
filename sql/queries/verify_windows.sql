-- Lists the totals of periods, of the users of one part of several, by hash, that are not what their events come to.
-- Params: $1 board text, $2 part int8 (from 0), $3 parts int8, $4 limit int8
-- Returns: many (user_id text, time_window text, period text, ledger_score numeric, ledger_events int8, total_score int8, total_submissions int8)
SELECT coalesce(e.user_id, t.user_id) AS user_id, coalesce(e.name, t.time_window) AS time_window,
       coalesce(e.period, t.period)::text AS period, e.score AS ledger_score, e.events AS ledger_events,
       t.score AS total_score, t.submissions AS total_submissions
FROM (
    SELECT l.user_id, l.name, l.period, count(*) FILTER (WHERE l.kind = 'score') AS events,
           CASE l.operator
               WHEN 'sum' THEN sum(l.points)
               WHEN 'best' THEN coalesce(greatest(max(l.value) FILTER (WHERE l.stands),
                                                  CASE WHEN bool_or(l.empties) THEN 0 END), 0)
               ELSE coalesce((array_agg(l.value ORDER BY l.seq DESC) FILTER (WHERE l.stands))[1], 0)
           END AS score
    FROM (
        SELECT s.user_id, s.seq, s.kind, s.points, coalesce(s.value, s.points) AS value, w.name, b.operator, p.period,
               s.kind = 'score' AND r.revokes IS NULL AS stands,
               b.operator = 'best' AND sum(CASE s.kind WHEN 'score' THEN 1 ELSE -1 END)
                   OVER (PARTITION BY s.user_id, w.name, p.period ORDER BY s.seq) = 0 AS empties
        FROM ledger s
        JOIN boards b ON b.board_id = s.board_id
        CROSS JOIN unnest(array_remove(b.windows, 'all')) w (name)
        CROSS JOIN LATERAL (SELECT period_of(w.name, b.timezone, coalesce(s.counted_at, s.at)) AS period) p
        LEFT JOIN ledger r ON r.board_id = s.board_id AND r.revokes = s.seq
        WHERE s.board_id = $1 AND s.kind IN ('score', 'revoke') AND abs(hashtext(s.user_id)::int8) % $3 = $2
    ) l
    GROUP BY l.user_id, l.name, l.period, l.operator
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
