-- Reads the scores and places of some users, in the order asked; nulls for one without a score, or who is hidden.
-- Params: $1 board text, $2 window text, $3 period text, $4 ties text, $5 users text[]
-- Returns: many (user_id text, name text, score int8, above int8, levels int8, tied int8, at_least int8)
SELECT asked.user_id, total.name, total.score, counted.above, counted.levels, counted.tied, counted.at_least
FROM unnest($5::text[]) WITH ORDINALITY AS asked (user_id, place)
LEFT JOIN LATERAL (
    -- Whether they are hidden is asked afterwards: a look for a user never goes through the board's order.
    SELECT t.score, t.reached_seq, t.hidden, u.display_name AS name FROM totals t
    LEFT JOIN users u ON u.user_id = t.user_id
    WHERE t.board_id = $1 AND t.time_window = $2 AND t.period = $3::text::date AND t.user_id = asked.user_id
    LIMIT 1
) total ON NOT total.hidden
LEFT JOIN LATERAL (
    SELECT
        (SELECT count(*) FROM totals
         WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
           AND (-score) < (-total.score)) AS above,
        (SELECT count(*)
         FROM (SELECT DISTINCT (-score) FROM totals
               WHERE $4 = 'dense' AND board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
                 AND (-score) < (-total.score)) level) AS levels,
        (SELECT count(*) FROM totals
         WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
           AND $4 = 'first' AND (-score) = (-total.score) AND reached_seq < total.reached_seq) AS tied,
        (SELECT count(*) FROM totals
         WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
           AND (-score) <= (-total.score)) AS at_least
) counted ON total.score IS NOT NULL
ORDER BY asked.place
