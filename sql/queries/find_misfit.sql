-- Finds the first event of an imported board that contradicts others: of a user's last one that changed the total, the
-- total after it; of one that makes another undone, which that is. The totals are there.
-- Params: $1 board text
-- Returns: maybe (seq int8, reason text)
SELECT m.seq, m.reason
FROM (
    SELECT l.seq, format('scoreAfter %s of user %L: the points of all events come to %s', l.score_after, l.user_id, t.score)
                  AS reason
    FROM totals t
    CROSS JOIN LATERAL (
        SELECT e.seq, e.user_id, e.score_after
        FROM ledger e
        WHERE e.board_id = $1 AND e.seq = t.reached_seq
        LIMIT 1
    ) l
    WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity' AND l.score_after <> t.score
    UNION ALL
    SELECT r.seq, format('revokes %s: that is no submission of user %L at countedAt', r.revokes, r.user_id)
    FROM ledger r
    LEFT JOIN LATERAL (
        SELECT e.seq
        FROM ledger e
        WHERE e.board_id = $1 AND e.seq = r.revokes AND e.kind = 'score' AND e.user_id = r.user_id AND e.at = r.counted_at
        LIMIT 1
    ) s ON true
    WHERE r.board_id = $1 AND r.revokes IS NOT NULL AND s.seq IS NULL
) m
ORDER BY m.seq
LIMIT 1
