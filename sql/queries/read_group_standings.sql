-- Reads the places of some users among the members of a group, in the order asked; nulls for one who has none there.
-- Params: $1 board text, $2 window text, $3 period text, $4 group text, $5 ties text, $6 users text[]
-- Returns: many (total int8, is_member bool, user_id text, name text, score int8, rank int8, below int8)
WITH ranked AS MATERIALIZED (
    SELECT r.user_id, r.score, r.rank, r.below
    FROM rank_group($1, $2, $3::text::date, $4, $5) r
),
wanted AS MATERIALIZED (
    SELECT r.user_id, r.score, r.rank, r.below
    FROM ranked r
    WHERE r.user_id = ANY ($6::text[])
)
SELECT counted.total,
       EXISTS (SELECT FROM group_members m
               WHERE m.board_id = $1 AND m.group_id = $4 AND m.user_id = asked.user_id) AS is_member,
       asked.user_id, u.display_name AS name, w.score, w.rank, w.below
FROM (SELECT count(*) AS total FROM ranked) counted
CROSS JOIN unnest($6::text[]) WITH ORDINALITY AS asked (user_id, place)
LEFT JOIN wanted w ON w.user_id = asked.user_id
LEFT JOIN users u ON u.user_id = w.user_id
ORDER BY asked.place
