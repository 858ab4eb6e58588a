"""The role that the server uses in the embedded PostgreSQL: it owns the database and all that the server has in it, and
is no superuser, so that nothing that goes wrong in a statement can reach files, programs or other roles.

``initdb``'s superuser stays for administration. Data directories of before there was this role had everything owned by
the superuser; it changes hands at the next start, in one transaction.
"""

import asyncpg

from scoreboard.errors import StartupError

APPLICATION_ROLE = "scoreboard_app"
TIMEOUT_S = 60.0

_IS_READY = """
SELECT EXISTS (
    SELECT FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
    WHERE d.datname = current_database() AND r.rolname = $1 AND NOT r.rolsuper
)
"""
# Ownership can't be reassigned as a whole: the superuser also owns the system's own tables. Sequences and types that
# belong to a table change hands with it; a function of an extension would stay, but there are no extensions.
_PREPARE = f"""
DO $$
DECLARE
    command text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APPLICATION_ROLE}') THEN
        CREATE ROLE {APPLICATION_ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION;
    END IF;
    EXECUTE format('ALTER DATABASE %I OWNER TO {APPLICATION_ROLE}', current_database());
    FOR command IN
        SELECT format(
            'ALTER %s %s OWNER TO {APPLICATION_ROLE}',
            CASE c.relkind
                WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                WHEN 'c' THEN 'TYPE' ELSE 'TABLE'
            END,
            c.oid::regclass
        )
        FROM pg_class c
        WHERE c.relnamespace = 'public'::regnamespace
            AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'c')
            AND NOT EXISTS (
                SELECT FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
            )
        UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO {APPLICATION_ROLE}', p.oid::regprocedure)
        FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
        UNION ALL
        SELECT format('ALTER TYPE %s OWNER TO {APPLICATION_ROLE}', t.oid::regtype)
        FROM pg_type t
        WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('d', 'e', 'r')
        UNION ALL
        SELECT format('ALTER STATISTICS %I OWNER TO {APPLICATION_ROLE}', s.stxname)
        FROM pg_statistic_ext s
        WHERE s.stxnamespace = 'public'::regnamespace
    LOOP
        EXECUTE command;
    END LOOP;
END
$$
"""  # noqa: S608  # it is put together from our own constant


async def prepare_application_role(admin_url: str) -> None:
    """Make the role, and have it own what the server needs, if that is not so yet.

    :raises StartupError: if that fails.
    """
    try:
        connection = await asyncpg.connect(admin_url, command_timeout=TIMEOUT_S)
        try:
            if not await connection.fetchval(_IS_READY, APPLICATION_ROLE):
                await connection.execute(_PREPARE)
        finally:
            await connection.close(timeout=5)
    except (asyncpg.PostgresError, OSError, TimeoutError) as exc:
        raise StartupError(f"the role {APPLICATION_ROLE} of the embedded PostgreSQL can't be prepared: {exc}") from exc
