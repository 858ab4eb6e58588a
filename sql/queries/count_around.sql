-- Counts the users down to a place: strictly higher scores, entries before it in the order, scores at least as high.
-- Params: $1 board text, $2 score int8, $3 user text
-- Returns: one (above int8, before int8, at_least int8)
SELECT
    (SELECT count(*) FROM totals
     WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND submissions > 0
       AND (-score) < (-$2::int8)) AS above,
    (SELECT count(*) FROM totals
     WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND submissions > 0
       AND ((-score), user_id) < ((-$2::int8), $3)) AS before,
    (SELECT count(*) FROM totals
     WHERE board_id = $1 AND time_window = 'all' AND period = '-infinity' AND submissions > 0
       AND (-score) <= (-$2::int8)) AS at_least
