-- Reads a page of a board as it stood at a position, by all events up to there: each user's last one has the score and
-- whether the user was shown. Who is hidden now, as the erased are, is left out. There is always a row, with nulls where
-- the page is empty.
-- Params: $1 board text, $2 seq int8, $3 ties text, $4 offset int8, $5 limit int8
-- Returns: many (total int8, rank int8, user_id text, score int8, name text)
WITH walked AS (
    SELECT l.user_id, l.seq, l.points, l.score_after, l.hidden
    FROM ledger l
    WHERE l.board_id = $1 AND l.seq >= 1 AND l.seq <= $2
    ORDER BY l.seq
    LIMIT $2
),
-- The greatest of the arrays is that of the last event. Looking up those of a million users afterwards took 5 s.
latest AS (
    SELECT w.user_id, max(ARRAY[w.seq, w.score_after, w.hidden::int]) AS event,
           CASE WHEN $3 = 'first' THEN coalesce(max(w.seq) FILTER (WHERE w.points <> 0), min(w.seq)) ELSE 0 END AS reached
    FROM walked w
    WHERE w.user_id IS NOT NULL
    GROUP BY w.user_id
),
shown AS MATERIALIZED (
    SELECT s.user_id, s.event[2] AS score, s.reached
    FROM latest s
    WHERE s.event[3] = 0 AND NOT EXISTS (
        SELECT FROM totals t
        WHERE t.board_id = $1 AND t.user_id = s.user_id AND t.time_window = 'all' AND t.hidden
    )
),
upper AS (
    SELECT s.user_id, s.score, s.reached
    FROM shown s
    ORDER BY (-s.score), s.reached, s.user_id
    LIMIT $4::int8 + $5::int8
),
ranked AS (
    SELECT p.user_id, p.score, row_number() OVER in_order AS place,
           CASE $3 WHEN 'first' THEN row_number() OVER in_order
                   WHEN 'dense' THEN dense_rank() OVER by_score
                   ELSE rank() OVER by_score END AS rank
    FROM upper p
    WINDOW by_score AS (ORDER BY (-p.score)), in_order AS (ORDER BY (-p.score), p.reached, p.user_id)
),
page AS (
    SELECT r.place, r.rank, r.user_id, r.score
    FROM ranked r
    WHERE r.place > $4
)
SELECT counted.total, p.rank, p.user_id, p.score, u.display_name AS name
FROM (SELECT count(*) AS total FROM shown) counted
LEFT JOIN page p ON true
LEFT JOIN users u ON u.user_id = p.user_id
ORDER BY p.place
