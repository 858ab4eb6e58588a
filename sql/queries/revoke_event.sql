-- Makes an event undone by another one; see the function's own header.
-- Params: $1 board text, $2 seq int8, $3 reason text
-- Returns: one (outcome text, epoch text, seq int8, user_id text, action_id text, points int8, score int8, at timestamptz, reason text, hidden bool)
SELECT outcome, epoch, seq, user_id, action_id, points, score, at, reason, hidden
FROM revoke_event($1, $2, $3)
