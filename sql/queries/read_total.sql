-- Reads a user's total in window 'all', with the board's position and size at the same moment.
-- Params: $1 board text, $2 user text
-- Returns: maybe (score int8, submissions int8, first_at timestamptz, last_at timestamptz, display_name text, epoch text, seq int8, players int8)
SELECT t.score, t.submissions, t.first_at, t.last_at, u.display_name, b.epoch, b.seq, b.players
FROM totals t
JOIN boards b ON b.board_id = t.board_id
LEFT JOIN users u ON u.user_id = t.user_id
WHERE t.board_id = $1 AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = $2
