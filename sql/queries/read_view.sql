-- Reads where a board stands and what of it a window shows in a period: the current one where none is named.
-- Params: $1 board text, $2 window text, $3 period text (a date, or null)
-- Returns: maybe (epoch text, seq int8, ties text, windows text[], filling text[], period text, ends_ms int8, players int8)
SELECT b.epoch, b.seq, b.ties, b.windows, coalesce(f.windows, '{}') AS filling, v.period::text AS period,
       CASE WHEN $2 = 'all' THEN NULL
            ELSE (extract(epoch FROM period_end($2, b.timezone, v.period)) * 1000)::bigint END AS ends_ms,
       CASE WHEN $2 = 'all' THEN b.players ELSE coalesce(p.players, 0) END AS players
FROM boards b
CROSS JOIN LATERAL (
    SELECT CASE WHEN $2 = 'all' THEN '-infinity'::date
                ELSE coalesce($3::text::date, period_of($2, b.timezone, greatest(clock_timestamp(), b.last_at)))
           END AS period
) v
LEFT JOIN fills f ON f.board_id = b.board_id
LEFT JOIN periods p ON p.board_id = b.board_id AND p.time_window = $2 AND p.period = v.period
WHERE b.board_id = $1
