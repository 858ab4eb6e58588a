-- Reads what a board's row says of its ledger and its totals, and what they say themselves.
-- Params: $1 board text
-- Returns: maybe (head int8, last_seq int8, is_last_at bool, players int8, users int8, shown int8)
SELECT b.seq AS head, coalesce(l.seq, 0) AS last_seq, b.last_at = coalesce(l.at, '-infinity') AS is_last_at,
       b.players, t.users, t.shown
FROM boards b
LEFT JOIN LATERAL (
    SELECT seq, at
    FROM ledger
    WHERE board_id = b.board_id
    ORDER BY seq DESC
    LIMIT 1
) l ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS users, count(*) FILTER (WHERE NOT hidden) AS shown
    FROM totals
    WHERE board_id = b.board_id AND time_window = 'all' AND period = '-infinity'
) t
WHERE b.board_id = $1
