-- Ranks a group's members among themselves and reads a page of that: one look at the totals for each member. Left out
-- are members who have no score there or are hidden. There is always a row, with nulls where the page is empty.
-- Params: $1 board text, $2 window text, $3 period text, $4 group text, $5 ties text, $6 offset int8, $7 limit int8, $8 score int8, $9 user text, $10 reached int8 (the entry before the page; nulls for none)
-- Returns: many (total int8, rank int8, user_id text, score int8, reached_seq int8, name text)
WITH scored AS (
    SELECT m.user_id, t.score, CASE WHEN $5 = 'first' THEN t.reached_seq ELSE 0 END AS reached_seq
    FROM group_members m
    CROSS JOIN LATERAL (
        SELECT each.score, each.reached_seq, each.hidden
        FROM totals each
        WHERE each.board_id = $1 AND each.time_window = $2 AND each.period = $3::text::date
          AND each.user_id = m.user_id
        LIMIT 1
    ) t
    WHERE m.board_id = $1 AND m.group_id = $4 AND NOT t.hidden
),
ranked AS (
    SELECT s.user_id, s.score, s.reached_seq,
           row_number() OVER in_order AS place,
           CASE $5 WHEN 'first' THEN row_number() OVER in_order
                   WHEN 'dense' THEN dense_rank() OVER by_score
                   ELSE rank() OVER by_score END AS rank
    FROM scored s
    WINDOW by_score AS (ORDER BY (-s.score)), in_order AS (ORDER BY (-s.score), s.reached_seq, s.user_id)
),
page AS (
    SELECT r.place, r.rank, r.user_id, r.score, r.reached_seq
    FROM ranked r
    WHERE $8::int8 IS NULL OR ((-r.score), r.reached_seq, r.user_id) > ((-$8::int8), $10::int8, $9::text)
    ORDER BY r.place
    OFFSET $6
    LIMIT $7
)
SELECT counted.total, p.rank, p.user_id, p.score, p.reached_seq, u.display_name AS name
FROM (SELECT count(*) AS total FROM scored) counted
LEFT JOIN page p ON true
LEFT JOIN users u ON u.user_id = p.user_id
ORDER BY p.place
