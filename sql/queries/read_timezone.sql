-- Reads how the database understands a time zone: whether its name is an abbreviation too, which it then looks up before
-- the zone itself, and the zone's distance from UTC at some moments. No row: there is no zone of that name.
-- Params: $1 name text, $2 moments timestamptz[]
-- Returns: maybe (is_abbreviation bool, offsets_s int4[])
SELECT EXISTS (SELECT 1 FROM pg_timezone_abbrevs a WHERE a.abbrev = upper($1)) AS is_abbreviation,
       ARRAY(
           SELECT extract(epoch FROM (m.at AT TIME ZONE $1) - (m.at AT TIME ZONE 'UTC'))::int4
           FROM unnest($2::timestamptz[]) WITH ORDINALITY m (at, ord)
           ORDER BY m.ord
       ) AS offsets_s
FROM pg_timezone_names z
WHERE z.name = $1
