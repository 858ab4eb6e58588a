-- Appends a batch of submissions to a board's ledger; see the function's own header for what it promises.
-- Params: $1 board text, $2 users text[], $3 actions text[], $4 keys text[], $5 points int8[] (both null where none), $6 digests bytea[] (null: none needed so far)
-- Returns: many (ord int4, outcome text, epoch text, seq int8, points int8, score int8, at timestamptz, hidden bool, windows int8[], name text, periods text, retry_after_s float8, quota int4, window_s int4, previous_at timestamptz)
SELECT ord, outcome, epoch, seq, points, score, at, hidden, windows, name, periods, retry_after_s, quota, window_s,
       previous_at
FROM submit_scores($1, $2, $3, $4, $5, $6)
ORDER BY ord
