-- The index of a board's order serves what is read in that order, and nothing else.
--
-- PostgreSQL 18 can skip over leading columns of an index. On a young table, of which there are no statistics yet, it
-- looked single users up by skipping through this index from score to score, which took half of a submission's time. A
-- query can use a partial index only where it asks for the same condition, so lookups by user never do. The condition
-- itself holds for every row.
--
-- Made beside the old one: boards can be read meanwhile, and submissions wait.
CREATE INDEX totals_in_order ON totals (board_id, time_window, period, (-score), user_id) WHERE submissions > 0;
DROP INDEX totals_order;
ALTER INDEX totals_in_order RENAME TO totals_order;

-- How scores are spread: the planner does not learn it from a partial index, and would scan the board for a page's ranks.
CREATE STATISTICS totals_score_spread ON (-score) FROM totals;
