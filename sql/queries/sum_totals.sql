-- Makes the totals of everything of an imported board from its ledger.
-- Params: $1 board text
-- Returns: none
INSERT INTO totals (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at, hidden)
SELECT $1, 'all', '-infinity', l.user_id, sum(l.points)::int8,
       coalesce(max(l.seq) FILTER (WHERE l.points <> 0), min(l.seq)),
       count(*) FILTER (WHERE l.kind IN ('score', 'opening')), min(l.at),
       coalesce(max(l.at) FILTER (WHERE l.kind IN ('score', 'opening')), min(l.at)),
       coalesce(max(l.seq) FILTER (WHERE l.hidden), 0) = max(l.seq)
FROM ledger l
WHERE l.board_id = $1 AND l.user_id IS NOT NULL
GROUP BY l.user_id
