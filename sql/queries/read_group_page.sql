-- Reads a page of a group's members, ranked among themselves. There is always a row, with nulls where the page is empty.
-- Params: $1 board text, $2 window text, $3 period text, $4 group text, $5 ties text, $6 offset int8, $7 limit int8, $8 score int8, $9 user text, $10 reached int8 (the entry before the page; nulls for none)
-- Returns: many (total int8, rank int8, user_id text, score int8, reached_seq int8, name text)
WITH ranked AS MATERIALIZED (
    SELECT r.user_id, r.score, r.reached_seq, r.place, r.rank
    FROM rank_group($1, $2, $3::text::date, $4, $5) r
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
FROM (SELECT count(*) AS total FROM ranked) counted
LEFT JOIN page p ON true
LEFT JOIN users u ON u.user_id = p.user_id
ORDER BY p.place
