-- Reads which transactions have ended: all before the oldest that has not, and where the next one will be.
-- Params: none
-- Returns: one (oldest int8, next int8)
SELECT pg_snapshot_xmin(pg_current_snapshot())::text::int8 AS oldest,
       pg_snapshot_xmax(pg_current_snapshot())::text::int8 AS next
