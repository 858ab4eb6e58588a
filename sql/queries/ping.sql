-- Answers, when the database does.
-- Params: none
-- Returns: one (alive int4)
SELECT 1 AS alive
