-- Tells what agree_on_digest_key would answer to a server with a key, and changes nothing.
-- Params: $1 fingerprint text (null where no setting gives one)
-- Returns: one (outcome text)
SELECT
    CASE
        WHEN k.fingerprint = $1 THEN 'agreed'
        WHEN $1 IS NULL AND k.secret IS NOT NULL THEN 'kept'
        WHEN EXISTS (SELECT FROM hidden_digests) THEN CASE WHEN $1 IS NULL THEN 'missing' ELSE 'differs' END
        WHEN $1 IS NULL THEN 'kept'
        ELSE 'agreed'
    END AS outcome
FROM (SELECT 'digest' AS name) asked
LEFT JOIN server_keys k ON k.name = asked.name
