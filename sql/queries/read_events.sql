-- Reads a board's events after a position, in order, with the periods that each is in.
-- Params: $1 board text, $2 after int8, $3 limit int8
-- Returns: many (seq int8, user_id text, action_id text, points int8, score_after int8, at timestamptz, kind text, hidden bool, day_after int8, week_after int8, month_after int8, periods text, name text, detail text)
SELECT l.seq, l.user_id, l.action_id, l.points, l.score_after, l.at, l.kind, l.hidden,
       l.day_after, l.week_after, l.month_after,
       CASE WHEN cardinality(b.windows) > 1 THEN periods_at(b.windows, b.timezone, l.at) END AS periods,
       CASE WHEN l.kind = 'name' THEN coalesce(l.detail ->> 'name', '') ELSE u.display_name END AS name,
       l.detail::text AS detail
FROM (
    SELECT seq, user_id, action_id, points, score_after, at, kind, hidden, day_after, week_after, month_after, detail
    FROM ledger
    WHERE board_id = $1 AND seq > $2
    ORDER BY seq
    LIMIT $3
) l
JOIN boards b ON b.board_id = $1
LEFT JOIN users u ON u.user_id = l.user_id
ORDER BY l.seq
