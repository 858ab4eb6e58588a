-- Reads who we are to this server, and whether anything can be written to it.
-- Params: none
-- Returns: one (role text, is_standby bool, is_read_only bool)
SELECT
    current_user::text AS role,
    pg_is_in_recovery() AS is_standby,
    current_setting('transaction_read_only')::bool AS is_read_only
