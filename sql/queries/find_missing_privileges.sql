-- Finds what the current role may not do with our tables and functions: rows are read and written, functions called.
-- Params: $1 tables text[], $2 functions text[]
-- Returns: many (name text, privileges text)
SELECT name, string_agg(privilege, ', ' ORDER BY place) AS privileges
FROM (
    SELECT c.relname::text AS name, asked.privilege, asked.place
    FROM pg_class c
    CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS asked (privilege, place)
    WHERE c.oid IN (SELECT to_regclass(t) FROM unnest($1::text[]) AS t)
        AND NOT has_table_privilege(c.oid, asked.privilege)
    UNION ALL
    SELECT DISTINCT p.proname::text, 'EXECUTE', 5
    FROM pg_proc p
    WHERE p.proname::text = ANY ($2::text[])
        AND pg_function_is_visible(p.oid)
        AND NOT has_function_privilege(p.oid, 'EXECUTE')
) missing
GROUP BY name
ORDER BY name
