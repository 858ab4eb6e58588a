-- Reads where the ledgers of some boards stand, and when some events of theirs were.
-- Params: $1 boards text[], $2 seqs int8[] (one beside each board; a board may come often)
-- Returns: many (board_id text, epoch text, seq int8, last_at timestamptz, asked_seq int8, asked_at timestamptz)
SELECT b.board_id, b.epoch, b.seq, b.last_at, asked.seq AS asked_seq, l.at AS asked_at
FROM unnest($1::text[], $2::int8[]) AS asked (board_id, seq)
JOIN boards b ON b.board_id = asked.board_id COLLATE "C"
LEFT JOIN ledger l ON l.board_id = b.board_id AND l.seq = asked.seq
ORDER BY b.board_id, asked.seq
