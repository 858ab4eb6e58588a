-- Reads the scores and places of some users, in the order asked; nulls for one without a score.
-- Params: $1 board text, $2 users text[]
-- Returns: many (user_id text, score int8, above int8, at_least int8)
SELECT asked.user_id, total.score, counted.above, counted.at_least
FROM unnest($2::text[]) WITH ORDINALITY AS asked (user_id, place)
LEFT JOIN LATERAL (
    SELECT t.score FROM totals t
    WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = asked.user_id
    LIMIT 1
) total ON true
LEFT JOIN LATERAL (
    SELECT
        (SELECT count(*) FROM totals
         WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND submissions > 0
           AND (-score) < (-total.score)) AS above,
        (SELECT count(*) FROM totals
         WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND submissions > 0
           AND (-score) <= (-total.score)) AS at_least
) counted ON total.score IS NOT NULL
ORDER BY asked.place
