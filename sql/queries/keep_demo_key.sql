-- Keeps the key of the demo's tokens if there is none yet, and reads the one that is kept.
-- Params: $1 drawn text
-- Returns: one (secret text)
INSERT INTO server_keys AS k (name, secret, fingerprint)
VALUES ('demo', $1, '')
ON CONFLICT (name) DO UPDATE SET secret = k.secret
RETURNING secret
