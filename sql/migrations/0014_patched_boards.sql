-- Some of a board's settings can be changed without naming the others, and what was read before the last change of
-- settings can be told from what was read after it.

-- When a board was set up otherwise for the last time: a page read before that does not go on after it. Such events are
-- few, so this index is small, and a submission pays for it by no more than looking at its own kind.
CREATE INDEX ledger_settings ON ledger (board_id, seq) WHERE kind = 'settings';

-- Changes those settings of a board that are named and keeps the others, as they are under the board's lock: of two
-- changes at once none undoes the other. Windows that are being filled are among those that a board keeps.
-- Outcomes: those of put_board but for created; no_board; floor_without_sum (a floor goes with operator sum only).
CREATE FUNCTION patch_board(
    p_board text, p_named text[], p_title text, p_windows text[], p_ties text, p_timezone text, p_operator text,
    p_floor bigint,
    OUT outcome text, OUT is_filling boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_board  boards%ROWTYPE;
    v_filled text[];
BEGIN
    is_filling := false;
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        outcome := 'no_board';
        RETURN;
    END IF;
    SELECT f.windows INTO v_filled FROM fills f WHERE f.board_id = p_board;
    IF NOT 'title' = ANY (p_named) THEN p_title := v_board.title; END IF;
    IF NOT 'windows' = ANY (p_named) THEN p_windows := v_board.windows || coalesce(v_filled, '{}'); END IF;
    IF NOT 'ties' = ANY (p_named) THEN p_ties := v_board.ties; END IF;
    IF NOT 'timezone' = ANY (p_named) THEN p_timezone := v_board.timezone; END IF;
    IF NOT 'operator' = ANY (p_named) THEN p_operator := v_board.operator; END IF;
    IF NOT 'floor' = ANY (p_named) THEN p_floor := v_board.floor; END IF;
    IF p_floor IS NOT NULL AND p_operator <> 'sum' THEN
        outcome := 'floor_without_sum';
        RETURN;
    END IF;
    SELECT b.outcome, b.is_filling INTO outcome, is_filling
    FROM put_board(p_board, p_title, p_windows, p_ties, p_timezone, p_operator, p_floor) b;
END;
$$;
