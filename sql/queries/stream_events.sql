-- Reads a board's whole ledger in order, with everything that an event has; used with a cursor, in one snapshot with the
-- board's row.
-- Params: $1 board text
-- Returns: many (seq int8, kind text, user_id text, action_id text, points int8, value int8, score_after int8, day_after int8, week_after int8, month_after int8, idempotency_key text, at timestamptz, counted_at timestamptz, revokes int8, hidden bool, detail text)
SELECT seq, kind, user_id, action_id, points, value, score_after, day_after, week_after, month_after, idempotency_key, at,
       counted_at, revokes, hidden, detail::text AS detail
FROM ledger
WHERE board_id = $1
ORDER BY seq
