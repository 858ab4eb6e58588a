-- Gives a board back as it was before an import; see the function's own header.
-- Params: $1 board text
-- Returns: one (done text)
SELECT end_discard($1)::text AS done
