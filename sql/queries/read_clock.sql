-- Reads the database's clock.
-- Params: none
-- Returns: one (now timestamptz)
SELECT date_trunc('milliseconds', clock_timestamp()) AS now
