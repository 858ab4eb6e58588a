-- Changes those settings of a board that are named; see the function's own header.
-- Params: $1 board text, $2 named text[], $3 title text, $4 windows text[], $5 ties text, $6 timezone text, $7 operator text, $8 floor int8
-- Returns: one (outcome text, is_filling bool)
SELECT outcome, is_filling
FROM patch_board($1, $2, $3, $4, $5, $6, $7, $8)
