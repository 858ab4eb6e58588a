-- Reads a user's events before a position, newest first, those that may have changed the score. (at, seq) is the order of
-- seq and has the index. Events of a board that is being imported are beyond its seq.
-- Params: $1 board text, $2 user text, $3 before int8, $4 limit int8
-- Returns: many (seq int8, action_id text, points int8, score_after int8, at timestamptz, kind text, revokes int8)
SELECT seq, action_id, points, score_after, at, kind, revokes
FROM ledger
WHERE board_id = $1 AND user_id = $2 AND kind IN ('score', 'revoke', 'opening')
  AND seq <= (SELECT h.seq FROM boards h WHERE h.board_id = $1)
  AND (at, seq) < (
      coalesce((SELECT b.at FROM ledger b WHERE b.board_id = $1 AND b.seq = $3), 'infinity'), $3::int8
  )
ORDER BY at DESC, seq DESC
LIMIT $4
