-- Reads a page of a board as it stood at a position, by the totals of now and all events after it: users with such an
-- event get the score of their last one before, all others have what they had. Who is hidden now, as the erased are, is
-- left out. There is always a row, with nulls where the page is empty.
--
-- A score was reached at the last event that changed it, or the user's first. That is looked for among so many events at
-- most, where the ties ask for it; is_known is false where they were not enough.
-- Params: $1 board text, $2 seq int8, $3 ties text, $4 offset int8, $5 limit int8, $6 looked_through_max int8
-- Returns: many (total int8, rank int8, user_id text, score int8, name text, is_known bool)
WITH moment AS MATERIALIZED (
    SELECT coalesce((SELECT l.at FROM ledger l WHERE l.board_id = $1 AND l.seq = $2), '-infinity') AS at
),
walked AS (
    SELECT l.user_id
    FROM ledger l
    WHERE l.board_id = $1 AND l.seq > $2
    ORDER BY l.seq
    LIMIT $6
),
moved AS (
    SELECT DISTINCT w.user_id
    FROM walked w
    WHERE w.user_id IS NOT NULL
),
restored AS MATERIALIZED (
    SELECT m.user_id, event.score_after AS score, coalesce(NOT event.hidden, false) AS was_shown,
           CASE WHEN $3 <> 'first' THEN 0 WHEN event.points <> 0 THEN event.seq ELSE now.reached_seq END AS reached
    FROM moved m
    LEFT JOIN LATERAL (
        SELECT l.seq, l.points, l.score_after, l.hidden
        FROM ledger l
        WHERE l.board_id = $1 AND l.user_id = m.user_id AND (l.at, l.seq) <= ((SELECT o.at FROM moment o), $2)
        ORDER BY l.at DESC, l.seq DESC
        LIMIT 1
    ) event ON true
    LEFT JOIN LATERAL (
        SELECT t.reached_seq
        FROM totals t
        WHERE $3 = 'first' AND event.points = 0 AND t.reached_seq <= $2
          AND t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = m.user_id
        LIMIT 1
    ) now ON true
    WHERE NOT EXISTS (
        SELECT FROM totals t
        WHERE t.board_id = $1 AND t.user_id = m.user_id AND t.time_window = 'all' AND t.hidden
    )
),
settled AS MATERIALIZED (
    SELECT r.user_id, r.score, coalesce(r.reached, found.seq) AS reached
    FROM restored r
    LEFT JOIN LATERAL (
        SELECT l.seq
        FROM ledger l
        WHERE r.reached IS NULL AND l.board_id = $1 AND l.user_id = r.user_id
        ORDER BY l.at, l.seq
        LIMIT 1
    ) first_event ON true
    LEFT JOIN LATERAL (
        SELECT back.seq
        FROM (
            SELECT l.at, l.seq, l.points
            FROM ledger l
            WHERE r.reached IS NULL AND l.board_id = $1 AND l.user_id = r.user_id
              AND (l.at, l.seq) <= ((SELECT o.at FROM moment o), $2)
            ORDER BY l.at DESC, l.seq DESC
            LIMIT (SELECT $6 / greatest(count(*), 1) FROM restored o WHERE o.was_shown AND o.reached IS NULL)
        ) back
        WHERE back.points <> 0 OR back.seq = first_event.seq
        ORDER BY back.at DESC, back.seq DESC
        LIMIT 1
    ) found ON true
    WHERE r.was_shown
),
stayed AS (
    SELECT t.user_id, t.score, CASE WHEN $3 = 'first' THEN t.reached_seq ELSE 0 END AS reached
    FROM totals t
    LEFT JOIN LATERAL (
        SELECT l.seq
        FROM ledger l
        WHERE l.board_id = $1 AND l.user_id = t.user_id AND (l.at, l.seq) > ((SELECT o.at FROM moment o), $2)
        ORDER BY l.at, l.seq
        LIMIT 1
    ) later ON true
    WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity' AND NOT t.hidden
      AND later.seq IS NULL
    ORDER BY (-t.score), CASE WHEN $3 = 'first' THEN t.reached_seq ELSE 0 END, t.user_id
    LIMIT $4::int8 + $5::int8
),
upper AS (
    SELECT s.user_id, s.score, s.reached FROM stayed s
    UNION ALL
    SELECT s.user_id, s.score, s.reached FROM settled s
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
    ORDER BY r.place
    LIMIT $5
)
SELECT b.players - counted.moved + counted.restored AS total, p.rank, p.user_id, p.score, u.display_name AS name,
       NOT EXISTS (SELECT FROM settled s WHERE s.reached IS NULL) AS is_known
FROM boards b
CROSS JOIN (SELECT count(*) AS moved, count(*) FILTER (WHERE r.was_shown) AS restored FROM restored r) counted
LEFT JOIN page p ON true
LEFT JOIN users u ON u.user_id = p.user_id
WHERE b.board_id = $1
ORDER BY p.place
