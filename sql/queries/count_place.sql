-- Counts what is before a place: entries and different scores above it, and entries of the same score that come before it
-- by user id, or by when they reached it.
-- Params: $1 board text, $2 window text, $3 period text, $4 ties text, $5 score int8, $6 user text, $7 reached int8
-- Returns: one (above int8, levels int8, tied int8)
SELECT
    (SELECT count(*) FROM totals
     WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
       AND (-score) < (-$5::int8)) AS above,
    (SELECT count(*)
     FROM (SELECT DISTINCT (-score) FROM totals
           WHERE $4 = 'dense' AND board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
             AND (-score) < (-$5::int8)) level) AS levels,
    (SELECT count(*) FROM totals
     WHERE board_id = $1 AND time_window = $2 AND period = $3::text::date AND NOT hidden
       AND (-score) = (-$5::int8)
       AND CASE WHEN $4 = 'first' THEN reached_seq < $7 ELSE user_id < $6 END) AS tied
