-- Holds a board's ledger against its head: gapless seq from 1, times in order, players counted.
-- Params: $1 board text
-- Returns: one (epoch text, head int8, players int8, events int8, last_seq int8, disordered int8, users int8)
SELECT b.epoch, b.seq AS head, b.players,
       l.events, l.last_seq, l.disordered, t.users
FROM boards b
CROSS JOIN LATERAL (
    SELECT count(*) AS events, coalesce(max(e.seq), 0) AS last_seq,
           count(*) FILTER (WHERE e.at < e.previous_at) AS disordered
    FROM (
        SELECT seq, at, lag(at) OVER (ORDER BY seq) AS previous_at
        FROM ledger
        WHERE board_id = b.board_id
    ) e
) l
CROSS JOIN LATERAL (
    SELECT count(*) AS users FROM totals WHERE board_id = b.board_id AND time_window = 'all'
) t
WHERE b.board_id = $1
