-- Counts the users who are shown of each period of an imported board.
-- Params: $1 board text
-- Returns: none
INSERT INTO periods (board_id, time_window, period, players)
SELECT $1, t.time_window, t.period, count(*) FILTER (WHERE NOT t.hidden)
FROM totals t
WHERE t.board_id = $1 AND t.time_window <> 'all'
GROUP BY t.time_window, t.period
