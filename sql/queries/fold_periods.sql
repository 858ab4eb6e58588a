-- Makes the totals of a window's periods of an imported board that counts the best or the last. Those of everything are
-- there. An event that makes another one undone leaves what stood without it, and the next ones count from there.
-- Params: $1 board text, $2 window text, $3 timezone text, $4 operator text
-- Returns: none
INSERT INTO totals (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at, hidden)
WITH events AS (
    SELECT l.user_id, l.seq, l.at, l.kind, coalesce(l.value, l.points) AS value,
           period_of($2, $3, coalesce(l.counted_at, l.at)) AS period
    FROM ledger l
    WHERE l.board_id = $1 AND l.kind IN ('score', 'revoke')
),
valued AS (
    SELECT e.user_id, e.seq, e.at, e.kind, e.period,
           CASE e.kind WHEN 'score' THEN e.value ELSE coalesce(standing.value, 0) END AS value,
           count(*) FILTER (WHERE e.kind = 'revoke') OVER (PARTITION BY e.period, e.user_id ORDER BY e.seq) AS part
    FROM events e
    LEFT JOIN LATERAL (
        SELECT coalesce(s.value, s.points) AS value
        FROM ledger s
        WHERE e.kind = 'revoke' AND s.board_id = $1 AND s.user_id = e.user_id AND s.kind = 'score' AND s.seq < e.seq
          AND s.at >= period_start($3, e.period) AND s.at < period_end($2, $3, e.period)
          AND NOT EXISTS (SELECT 1 FROM ledger r WHERE r.board_id = $1 AND r.revokes = s.seq AND r.seq <= e.seq)
        ORDER BY CASE WHEN $4 = 'best' THEN coalesce(s.value, s.points) END DESC, s.at DESC, s.seq DESC
        LIMIT 1
    ) standing ON true
),
scored AS (
    SELECT v.user_id, v.seq, v.at, v.kind, v.period,
           CASE WHEN $4 = 'best' THEN max(v.value) OVER (PARTITION BY v.period, v.user_id, v.part ORDER BY v.seq)
                ELSE v.value END AS score
    FROM valued v
),
changing AS (
    SELECT s.user_id, s.seq, s.at, s.kind, s.period, s.score,
           s.score IS DISTINCT FROM lag(s.score) OVER so_far AS changes, lead(s.seq) OVER so_far IS NULL AS is_last
    FROM scored s
    WINDOW so_far AS (PARTITION BY s.period, s.user_id ORDER BY s.seq)
),
folded AS (
    SELECT c.period, c.user_id, max(c.score) FILTER (WHERE c.is_last) AS score,
           max(c.seq) FILTER (WHERE c.changes) AS reached_seq, count(*) FILTER (WHERE c.kind = 'score') AS submissions,
           min(c.at) AS first_at, coalesce(max(c.at) FILTER (WHERE c.kind = 'score'), min(c.at)) AS last_at
    FROM changing c
    GROUP BY c.period, c.user_id
)
SELECT $1, $2, f.period, f.user_id, f.score, f.reached_seq, f.submissions, f.first_at, f.last_at,
       f.user_id IN (SELECT t.user_id FROM totals t
                     WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity' AND t.hidden)
FROM folded f
ORDER BY f.period, f.user_id
