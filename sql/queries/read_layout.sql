-- Reads where a board stands, and what is ranked of it and how: the periods of its windows are those of now, or of its
-- last event if that is later; null on a board of 'all' only.
-- Params: $1 board text
-- Returns: maybe (epoch text, seq int8, last_at timestamptz, ties text, periods text)
SELECT epoch, seq, last_at, ties, periods_at(windows, timezone, greatest(clock_timestamp(), last_at)) AS periods
FROM boards
WHERE board_id = $1
