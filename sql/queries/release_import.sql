-- Lets others import into a board.
-- Params: $1 board text
-- Returns: one (was_taken bool)
SELECT pg_advisory_unlock(hashtextextended('import:' || $1, 0)) AS was_taken
