-- Counts a slice of a board's ledger, and its events that are earlier than the one before. The event at the slice's
-- border is read again, so that the first one has one before it.
-- Params: $1 board text, $2 after int8, $3 through int8, $4 limit int8
-- Returns: one (events int8, last_seq int8, disordered int8)
SELECT count(*) FILTER (WHERE e.seq > $2) AS events, coalesce(max(e.seq), 0) AS last_seq,
       count(*) FILTER (WHERE e.at < e.previous_at) AS disordered
FROM (
    SELECT slice.seq, slice.at, lag(slice.at) OVER (ORDER BY slice.seq) AS previous_at
    FROM (
        SELECT seq, at
        FROM ledger
        WHERE board_id = $1 AND seq >= $2 AND seq <= $3
        ORDER BY seq
        LIMIT $4::int8 + 1
    ) slice
) e
