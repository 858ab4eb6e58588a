-- Opens an imported board; see the function's own header.
-- Params: $1 board text, $2 epoch text, $3 seq int8, $4 title text, $5 windows text[], $6 ties text, $7 timezone text, $8 operator text, $9 floor int8, $10 created_at timestamptz
-- Returns: one (done text)
SELECT open_board($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)::text AS done
