-- Lists the periods of a board's windows whose count of users is wrong.
-- Params: $1 board text, $2 limit int8
-- Returns: many (time_window text, period text, players int8, shown int8)
SELECT coalesce(p.time_window, t.time_window) AS time_window, coalesce(p.period, t.period)::text AS period,
       coalesce(p.players, 0) AS players, coalesce(t.shown, 0) AS shown
FROM (
    SELECT s.time_window, s.period, s.players
    FROM periods s
    JOIN boards b ON b.board_id = s.board_id AND s.time_window = ANY (b.windows)
    WHERE s.board_id = $1
) p
FULL JOIN (
    SELECT s.time_window, s.period, count(*) AS shown
    FROM totals s
    JOIN boards b ON b.board_id = s.board_id AND s.time_window = ANY (array_remove(b.windows, 'all'))
    WHERE s.board_id = $1 AND NOT s.hidden
    GROUP BY s.time_window, s.period
) t ON t.time_window = p.time_window AND t.period = p.period
WHERE coalesce(p.players, 0) <> coalesce(t.shown, 0)
ORDER BY 1, 2
LIMIT $2
