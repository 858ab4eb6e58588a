-- Finds the position of a board that a seq or a time names: that of the last event at or before the time, by halving,
-- for seqs have no gaps and times never fall. And what names the state of the board there: when the event there was, and
-- the last event of the board that was no submission.
-- Params: $1 board text, $2 seq int8, $3 time timestamptz (one of both is null)
-- Returns: maybe (epoch text, head int8, ties text, players int8, seq int8, is_past bool, at_ms int8, changed_seq int8, changed_ms int8)
WITH RECURSIVE halved AS (
    SELECT 0::int8 AS low, b.seq AS high
    FROM boards b
    WHERE b.board_id = $1 AND $3::timestamptz IS NOT NULL
    UNION ALL
    SELECT CASE WHEN e.at <= $3 THEN e.seq ELSE h.low END, CASE WHEN e.at <= $3 THEN h.high ELSE e.seq - 1 END
    FROM halved h
    CROSS JOIN LATERAL (
        SELECT l.seq, l.at
        FROM ledger l
        WHERE l.board_id = $1 AND l.seq = (h.low + h.high + 1) / 2
        LIMIT 1
    ) e
    WHERE h.low < h.high
)
SELECT b.epoch, b.seq AS head, b.ties, b.players, named.seq,
       coalesce($2::int8 <= b.seq, $3 <= greatest(clock_timestamp(), b.last_at)) AS is_past,
       coalesce((extract(epoch FROM event.at) * 1000)::int8, 0) AS at_ms,
       coalesce(changed.seq, 0) AS changed_seq, coalesce((extract(epoch FROM changed.at) * 1000)::int8, 0) AS changed_ms
FROM boards b
CROSS JOIN LATERAL (SELECT coalesce($2::int8, (SELECT max(h.low) FROM halved h)) AS seq) named
LEFT JOIN LATERAL (
    SELECT l.at
    FROM ledger l
    WHERE l.board_id = b.board_id AND l.seq = named.seq
    LIMIT 1
) event ON true
LEFT JOIN LATERAL (
    SELECT l.seq, l.at
    FROM ledger l
    WHERE l.board_id = b.board_id AND l.seq <= b.seq AND (l.kind <> 'score' OR l.counted_at IS NOT NULL)
    ORDER BY l.seq DESC NULLS LAST
    LIMIT 1
) changed ON true
WHERE b.board_id = $1
