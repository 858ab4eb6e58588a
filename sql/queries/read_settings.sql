-- Reads what a session of ours finds when it begins: the server's settings that matter to us, and who uses it.
-- Params: none
-- Returns: one (version text, fsync text, synchronous_commit text, full_page_writes text, encoding text, connections_max int4, connections_reserved int4, connections_role int4, connections_database int4, connections_used int4)
SELECT
    current_setting('server_version') AS version,
    current_setting('fsync') AS fsync,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('server_encoding') AS encoding,
    current_setting('max_connections')::int4 AS connections_max,
    current_setting('superuser_reserved_connections')::int4
        + coalesce(current_setting('reserved_connections', true), '0')::int4 AS connections_reserved,
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user) AS connections_role,
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database()) AS connections_database,
    (SELECT sum(numbackends)::int4 FROM pg_stat_database) AS connections_used
