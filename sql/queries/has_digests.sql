-- Tells whether anybody is remembered by a digest.
-- Params: none
-- Returns: one (has_digests bool)
SELECT EXISTS (SELECT FROM hidden_digests) AS has_digests
