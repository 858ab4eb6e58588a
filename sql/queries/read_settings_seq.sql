-- Reads at which seq a board was set up otherwise for the last time; 0 where it never was.
-- Params: $1 board text
-- Returns: one (settings_seq int8)
SELECT coalesce(max(seq), 0) AS settings_seq
FROM ledger
WHERE board_id = $1 AND kind = 'settings'
