-- Creates a board or changes its settings; see the function's own header.
-- Params: $1 board text, $2 title text, $3 windows text[], $4 ties text, $5 timezone text, $6 operator text, $7 floor int8
-- Returns: one (outcome text, is_filling bool)
SELECT outcome, is_filling
FROM put_board($1, $2, $3, $4, $5, $6, $7)
