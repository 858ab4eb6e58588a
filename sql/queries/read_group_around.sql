-- Reads a member of a group with neighbours above and below, ranked among the members; at an edge the other side gives
-- more. There is always a row, with nulls where the user is not ranked in the group.
-- Params: $1 board text, $2 window text, $3 period text, $4 group text, $5 ties text, $6 user text, $7 radius int8
-- Returns: many (total int8, is_member bool, more bool, rank int8, user_id text, score int8, reached_seq int8, name text)
WITH ranked AS MATERIALIZED (
    SELECT r.user_id, r.score, r.reached_seq, r.place, r.rank
    FROM rank_group($1, $2, $3::text::date, $4, $5) r
),
counted AS MATERIALIZED (
    SELECT count(*) AS total, least(2 * $7::int8 + 1, count(*)) AS size, max(r.place) FILTER (WHERE r.user_id = $6) AS middle
    FROM ranked r
),
slice AS MATERIALIZED (
    SELECT c.total, c.size, greatest(0, least(c.middle - 1 - $7, c.total - c.size)) AS before
    FROM counted c
    WHERE c.middle IS NOT NULL
),
page AS (
    SELECT r.place, r.rank, r.user_id, r.score, r.reached_seq, s.before + s.size < s.total AS more
    FROM slice s
    JOIN ranked r ON r.place > s.before AND r.place <= s.before + s.size
)
SELECT c.total,
       EXISTS (SELECT FROM group_members m WHERE m.board_id = $1 AND m.group_id = $4 AND m.user_id = $6) AS is_member,
       coalesce(p.more, false) AS more, p.rank, p.user_id, p.score, p.reached_seq, u.display_name AS name
FROM counted c
LEFT JOIN page p ON true
LEFT JOIN users u ON u.user_id = p.user_id
ORDER BY p.place
