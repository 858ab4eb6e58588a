-- Finds the key with which digests are made, or keeps one; see the function's own header.
-- Params: $1 fingerprint text (null where no setting gives one), $2 drawn text, $3 drawn_fingerprint text
-- Returns: one (outcome text, secret text)
SELECT outcome, secret
FROM agree_on_digest_key($1, $2, $3)
