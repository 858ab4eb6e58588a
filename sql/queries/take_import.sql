-- Takes the sole right to import into a board, for as long as the session lasts.
-- Params: $1 board text
-- Returns: one (is_taken bool)
SELECT pg_try_advisory_lock(hashtextextended('import:' || $1, 0)) AS is_taken
