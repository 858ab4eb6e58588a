-- Reads the scores and places of some users, in the order asked; nulls for one without a score, or who is hidden.
--
-- Counted is between one score that somebody asked for has and the next higher one, so the board's order is gone through
-- once, down to the lowest of them, however many are asked for.
-- Params: $1 board text, $2 window text, $3 period text, $4 ties text, $5 users text[]
-- Returns: many (user_id text, name text, score int8, above int8, levels int8, tied int8, at_least int8)
WITH found AS MATERIALIZED (
    SELECT asked.place, total.user_id, total.score
    FROM unnest($5::text[]) WITH ORDINALITY AS asked (user_id, place)
    CROSS JOIN LATERAL (
        -- Whether they are hidden is asked afterwards: a look for a user never goes through the board's order.
        SELECT t.user_id, t.score, t.hidden
        FROM totals t
        WHERE t.board_id = $1 AND t.time_window = $2 AND t.period = $3::text::date AND t.user_id = asked.user_id
        LIMIT 1
    ) total
    WHERE NOT total.hidden
),
steps AS MATERIALIZED (
    SELECT d.score, coalesce(lag(-d.score) OVER (ORDER BY (-d.score)), -9007199254740992) AS previous
    FROM (SELECT DISTINCT f.score FROM found f) d
),
counted AS (
    SELECT s.score,
           (SELECT count(*) FROM totals t
            WHERE t.board_id = $1 AND t.time_window = $2 AND t.period = $3::text::date AND NOT t.hidden
              AND (-t.score) > s.previous AND (-t.score) < (-s.score)) AS between,
           (SELECT count(*)
            FROM (SELECT DISTINCT (-t.score) FROM totals t
                  WHERE $4 = 'dense'
                    AND t.board_id = $1 AND t.time_window = $2 AND t.period = $3::text::date AND NOT t.hidden
                    AND (-t.score) > s.previous AND (-t.score) < (-s.score)) level) AS levels,
           (SELECT count(*) FROM totals t
            WHERE t.board_id = $1 AND t.time_window = $2 AND t.period = $3::text::date AND NOT t.hidden
              AND (-t.score) = (-s.score)) AS equal
    FROM steps s
),
summed AS (
    SELECT c.score, c.equal,
           sum(c.between + c.equal) OVER so_far AS at_least,
           sum(c.levels + 1) OVER so_far - 1 AS levels
    FROM counted c
    WINDOW so_far AS (ORDER BY (-c.score))
),
tied AS MATERIALIZED (
    SELECT each.user_id, each.earlier
    FROM steps s
    CROSS JOIN LATERAL (
        SELECT t.user_id, row_number() OVER (ORDER BY t.reached_seq) - 1 AS earlier
        FROM totals t
        WHERE $4 = 'first'
          AND t.board_id = $1 AND t.time_window = $2 AND t.period = $3::text::date AND NOT t.hidden
          AND (-t.score) = (-s.score)
    ) each
    WHERE each.user_id = ANY ($5::text[])
)
SELECT asked.user_id, u.display_name AS name, f.score, (m.at_least - m.equal)::int8 AS above, m.levels::int8 AS levels,
       coalesce(e.earlier, 0) AS tied, m.at_least::int8 AS at_least
FROM unnest($5::text[]) WITH ORDINALITY AS asked (user_id, place)
LEFT JOIN found f ON f.place = asked.place
LEFT JOIN summed m ON m.score = f.score
LEFT JOIN tied e ON e.user_id = f.user_id
LEFT JOIN users u ON u.user_id = f.user_id
ORDER BY asked.place
