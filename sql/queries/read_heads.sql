-- Reads where the ledgers of some boards stand, and when some events of theirs were. One look for each: as plain joins
-- hundreds of events would be joined by reading a whole ledger.
-- Params: $1 boards text[], $2 seqs int8[] (one beside each board; a board may come often)
-- Returns: many (board_id text, epoch text, seq int8, last_at timestamptz, asked_seq int8, asked_at timestamptz)
SELECT board.board_id, board.epoch, board.seq, board.last_at, asked.seq AS asked_seq, event.at AS asked_at
FROM unnest($1::text[], $2::int8[]) AS asked (board_id, seq)
CROSS JOIN LATERAL (
    SELECT b.board_id, b.epoch, b.seq, b.last_at
    FROM boards b
    WHERE b.board_id = asked.board_id COLLATE "C"
    LIMIT 1
) board
LEFT JOIN LATERAL (
    SELECT l.at
    FROM ledger l
    WHERE l.board_id = board.board_id AND l.seq = asked.seq
    LIMIT 1
) event ON true
ORDER BY board.board_id, asked.seq
