-- Reads what names the state of a window in a period, or of a group in it: see the module of kept answers. The period is
-- the current one where none is named; it is over when an event has come after it, for then no later one is in it.
--
-- An earlier position tells whether the history is still the same, by when its event was; and whether a member of the group
-- has got a score since. That is looked for in so many events at most; when there are more, somebody may have.
-- Params: $1 board text, $2 window text, $3 period text (a date, or null), $4 group text (or null), $5 since int8, $6 since_ms int8, $7 looked_through_max int8
-- Returns: maybe (epoch text, seq int8, at_ms int8, period text, is_over bool, changed_seq int8, revision text, is_same bool, is_touched bool)
SELECT b.epoch, b.seq, CASE WHEN b.seq > 0 THEN (extract(epoch FROM b.last_at) * 1000)::int8 ELSE 0 END AS at_ms, v.period::text AS period,
       CASE WHEN $2 = 'all' THEN false
            ELSE b.last_at < end_of_time() AND b.last_at >= period_end($2, b.timezone, v.period) END AS is_over,
       coalesce((
           SELECT l.seq
           FROM ledger l
           WHERE l.board_id = b.board_id AND l.seq <= b.seq AND (l.kind <> 'score' OR l.counted_at IS NOT NULL)
           ORDER BY l.seq DESC NULLS LAST
           LIMIT 1
       ), 0) AS changed_seq,
       g.revision,
       $5::int8 = 0 OR EXISTS (
           SELECT FROM ledger l
           WHERE l.board_id = b.board_id AND l.seq = $5 AND (extract(epoch FROM l.at) * 1000)::int8 = $6
       ) AS is_same,
       CASE WHEN $4::text IS NULL OR b.seq <= $5 THEN false
            WHEN b.seq - $5 > $7 THEN true
            ELSE EXISTS (
                SELECT FROM (
                    SELECT l.user_id
                    FROM ledger l
                    WHERE l.board_id = b.board_id AND l.seq > $5 AND l.seq <= b.seq
                    ORDER BY l.seq
                    LIMIT $7
                ) recent
                CROSS JOIN LATERAL (
                    SELECT m.user_id
                    FROM group_members m
                    WHERE m.board_id = $1 AND m.group_id = $4 AND m.user_id = recent.user_id
                    LIMIT 1
                ) member
            ) END AS is_touched
FROM boards b
CROSS JOIN LATERAL (
    SELECT CASE WHEN $2 = 'all' THEN '-infinity'::date
                ELSE coalesce($3::text::date, period_of($2, b.timezone, greatest(clock_timestamp(), b.last_at)))
           END AS period
) v
LEFT JOIN groups g ON g.board_id = b.board_id AND g.group_id = $4
WHERE b.board_id = $1
