-- Lists the periods of a window in which something happened, newest first.
-- Params: $1 board text, $2 window text, $3 before text (a date; 'infinity' for the start), $4 limit int8
-- Returns: many (period text, starts_at timestamptz, ends_at timestamptz, players int8)
SELECT p.period::text AS period, period_start(b.timezone, p.period) AS starts_at,
       period_end(p.time_window, b.timezone, p.period) AS ends_at, p.players
FROM periods p
JOIN boards b ON b.board_id = p.board_id
WHERE p.board_id = $1 AND p.time_window = $2 AND p.period < $3::text::date
ORDER BY p.period DESC
LIMIT $4
