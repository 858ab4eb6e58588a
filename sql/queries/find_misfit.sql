-- Finds the first event of an imported board that contradicts others: of a user's last one that changed the total, the
-- total after it; of one that makes another undone, which that is. The totals are there.
-- Params: $1 board text
-- Returns: maybe (seq int8, reason text)
SELECT m.seq, m.reason
FROM (
    SELECT l.seq, format('scoreAfter %s of user %L: the points of all events come to %s', l.score_after, l.user_id, t.score)
                  AS reason
    FROM totals t
    JOIN ledger l ON l.board_id = t.board_id AND l.seq = t.reached_seq
    WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity' AND l.score_after <> t.score
    UNION ALL
    SELECT r.seq, format('revokes %s: that is no submission of user %L at countedAt', r.revokes, r.user_id)
    FROM ledger r
    LEFT JOIN ledger s ON s.board_id = r.board_id AND s.seq = r.revokes AND s.kind = 'score' AND s.user_id = r.user_id
                      AND s.at = r.counted_at
    WHERE r.board_id = $1 AND r.revokes IS NOT NULL AND s.seq IS NULL
) m
ORDER BY m.seq
LIMIT 1
