-- Boards are created and changed by one function, because what a board shows changes with an event; and a window that
-- is new to a board with a history is filled from the ledger while the board is written to.

-- Appends the event that says that a board is set up otherwise now.
CREATE FUNCTION append_settings(p_board text) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_board boards%ROWTYPE;
    v_event ledger%ROWTYPE;
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board;
    v_event.kind := 'settings';
    v_event.points := 0;
    v_event.score_after := 0;
    v_event.hidden := false;
    PERFORM append_event(v_board, v_event, 0);
END;
$$;

-- Creates a board or changes its settings. Other ties, windows or time zone are an event: whoever ranks the board
-- begins anew from it. Windows to be added to a board with a history are noted in fills, for fill_windows.
-- Outcomes: created, changed, operator_fixed (a board that has events counts as it does).
CREATE FUNCTION put_board(
    p_board text, p_title text, p_windows text[], p_ties text, p_timezone text, p_operator text, p_floor bigint,
    OUT outcome text, OUT is_filling boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_board  boards%ROWTYPE;
    v_kept   text[]; -- windows that go on
    v_fill   text[];
BEGIN
    INSERT INTO boards (board_id, title, windows, ties, timezone, operator, floor)
    VALUES (p_board, p_title, p_windows, p_ties, p_timezone, p_operator, p_floor)
    ON CONFLICT (board_id) DO NOTHING;
    IF FOUND THEN
        outcome := 'created';
        is_filling := false;
        RETURN;
    END IF;
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    IF v_board.operator <> p_operator AND EXISTS (SELECT 1 FROM totals t WHERE t.board_id = p_board) THEN
        outcome := 'operator_fixed';
        is_filling := false;
        RETURN;
    END IF;
    SELECT coalesce(array_agg(w.name ORDER BY w.ord), '{}') INTO v_kept
    FROM unnest('{all,day,week,month}'::text[]) WITH ORDINALITY w (name, ord)
    WHERE w.name = 'all'
       OR (w.name = ANY (p_windows) AND (v_board.seq = 0 OR (w.name = ANY (v_board.windows)
                                                              AND p_timezone = v_board.timezone)));
    SELECT array_agg(w.name ORDER BY w.name) INTO v_fill
    FROM unnest(p_windows) w (name)
    WHERE w.name <> ALL (v_kept);
    UPDATE boards b
    SET title = p_title, windows = v_kept, ties = p_ties, timezone = p_timezone, operator = p_operator, floor = p_floor
    WHERE b.board_id = p_board;
    IF v_board.windows <> v_kept OR v_board.ties <> p_ties OR v_board.timezone <> p_timezone THEN
        PERFORM append_settings(p_board);
    END IF;
    IF v_fill IS NULL THEN
        DELETE FROM fills f WHERE f.board_id = p_board;
    ELSE
        -- The same ones that somebody began to fill go on where that was left, unless the time zone is another.
        INSERT INTO fills AS f (board_id, windows)
        VALUES (p_board, v_fill)
        ON CONFLICT (board_id) DO UPDATE
        SET windows = excluded.windows,
            seq = CASE WHEN f.windows = excluded.windows AND v_board.timezone = p_timezone THEN f.seq ELSE 0 END;
    END IF;
    outcome := 'changed';
    is_filling := v_fill IS NOT NULL;
END;
$$;

-- Does a slice of the work of filling a board's new windows, with the board locked: what is written to it meanwhile has
-- its turn between two slices. The last slice gives the windows to the board. First goes what is left of windows of
-- that name that the board had before.
CREATE FUNCTION fill_windows(p_board text, p_limit bigint, OUT is_done boolean)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
DECLARE
    v_fill    fills%ROWTYPE;
    v_board   boards%ROWTYPE;
    v_through bigint;
    v_deleted bigint;
BEGIN
    is_done := true;
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    SELECT * INTO v_fill FROM fills f WHERE f.board_id = p_board;
    IF v_fill.board_id IS NULL THEN
        RETURN;
    END IF;
    IF v_fill.seq = 0 THEN
        DELETE FROM totals t
        WHERE t.ctid = ANY (ARRAY(
            SELECT l.ctid FROM unnest(v_fill.windows) w (name)
            CROSS JOIN LATERAL (
                SELECT left_over.ctid FROM totals left_over
                WHERE left_over.board_id = p_board AND left_over.time_window = w.name
                LIMIT p_limit
            ) l
        ));
        GET DIAGNOSTICS v_deleted = ROW_COUNT;
        DELETE FROM periods p WHERE p.board_id = p_board AND p.time_window = ANY (v_fill.windows);
        IF v_deleted > 0 THEN
            is_done := false;
            RETURN;
        END IF;
    END IF;
    v_through := least(v_fill.seq + p_limit, v_board.seq);
    IF v_board.operator <> 'sum' THEN -- what makes undone ends its slice, for what is left then is not a sum
        v_through := coalesce((
            SELECT l.seq FROM ledger l
            WHERE l.board_id = p_board AND l.seq > v_fill.seq AND l.seq <= v_through AND l.kind = 'revoke'
            ORDER BY l.seq
            LIMIT 1
        ), v_through);
    END IF;

    WITH events AS (
        SELECT l.user_id, l.seq, l.at, l.kind, l.points, coalesce(l.value, l.points) AS value,
               w.name, period_of(w.name, v_board.timezone, coalesce(l.counted_at, l.at)) AS period
        FROM ledger l
        CROSS JOIN unnest(v_fill.windows) w (name)
        WHERE l.board_id = p_board AND l.seq > v_fill.seq AND l.seq <= v_through
          AND (l.kind = 'score' OR (l.kind = 'revoke' AND v_board.operator = 'sum'))
    ),
    summed AS (
        SELECT e.*, before.score AS before, before.reached_seq AS reached, before.first_at, before.last_at,
               everything.hidden,
               CASE v_board.operator
                   WHEN 'sum' THEN coalesce(before.score, 0) + sum(e.points) OVER so_far
                   WHEN 'best' THEN greatest(before.score, max(e.value) OVER so_far)
                   ELSE e.value
               END::bigint AS score
        FROM events e
        CROSS JOIN LATERAL (
            SELECT t.hidden FROM totals t
            WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = e.user_id
            LIMIT 1
        ) everything
        LEFT JOIN LATERAL (
            SELECT t.score, t.reached_seq, t.first_at, t.last_at FROM totals t
            WHERE t.board_id = p_board AND t.time_window = e.name AND t.period = e.period AND t.user_id = e.user_id
            LIMIT 1
        ) before ON true
        WINDOW so_far AS (PARTITION BY e.name, e.period, e.user_id ORDER BY e.seq)
    ),
    changing AS (
        SELECT s.*, s.score IS DISTINCT FROM coalesce(lag(s.score) OVER so_far, s.before) AS changes,
               lead(s.seq) OVER so_far IS NULL AS is_last
        FROM summed s
        WINDOW so_far AS (PARTITION BY s.name, s.period, s.user_id ORDER BY s.seq)
    ),
    folded AS (
        SELECT c.name, c.period, c.user_id, max(c.score) FILTER (WHERE c.is_last) AS score,
               coalesce(max(c.seq) FILTER (WHERE c.changes), max(c.reached)) AS reached_seq,
               count(*) FILTER (WHERE c.kind = 'score') AS submissions,
               coalesce(max(c.first_at), min(c.at)) AS first_at,
               coalesce(max(c.at) FILTER (WHERE c.kind = 'score'), max(c.last_at)) AS last_at,
               bool_and(c.hidden) AS hidden, max(c.first_at) IS NULL AS is_new
        FROM changing c
        GROUP BY c.name, c.period, c.user_id
    ),
    peopled AS (
        INSERT INTO periods AS p (board_id, time_window, period, players)
        SELECT p_board, f.name, f.period, count(*)
        FROM folded f
        WHERE f.is_new AND NOT f.hidden
        GROUP BY f.name, f.period
        ON CONFLICT (board_id, time_window, period) DO UPDATE SET players = p.players + excluded.players
    )
    INSERT INTO totals AS t (board_id, time_window, period, user_id, score, reached_seq, submissions,
                             first_at, last_at, hidden)
    SELECT p_board, f.name, f.period, f.user_id, f.score, f.reached_seq, f.submissions, f.first_at, f.last_at, f.hidden
    FROM folded f
    ON CONFLICT (board_id, time_window, period, user_id) DO UPDATE
    SET score = excluded.score, reached_seq = excluded.reached_seq,
        submissions = t.submissions + excluded.submissions, last_at = excluded.last_at;

    IF v_board.operator <> 'sum' THEN
        UPDATE totals t
        SET score = left_over.score, reached_seq = CASE WHEN left_over.score <> t.score THEN r.seq ELSE t.reached_seq END
        FROM (
            SELECT l.user_id, l.seq, w.name, period_of(w.name, v_board.timezone, l.counted_at) AS period
            FROM ledger l
            CROSS JOIN unnest(v_fill.windows) w (name)
            WHERE l.board_id = p_board AND l.seq = v_through AND l.kind = 'revoke'
        ) r
        CROSS JOIN LATERAL (
            SELECT coalesce(score_without(v_board, r.user_id, 0, v_through, period_start(v_board.timezone, r.period),
                                          period_end(r.name, v_board.timezone, r.period)), 0) AS score
        ) left_over
        WHERE t.board_id = p_board AND t.time_window = r.name AND t.period = r.period AND t.user_id = r.user_id;
    END IF;

    is_done := v_through = v_board.seq;
    IF NOT is_done THEN
        UPDATE fills f SET seq = v_through WHERE f.board_id = p_board;
        RETURN;
    END IF;
    DELETE FROM fills f WHERE f.board_id = p_board;
    UPDATE boards b
    SET windows = ARRAY(
        SELECT w.name FROM unnest('{all,day,week,month}'::text[]) WITH ORDINALITY w (name, ord)
        WHERE w.name = ANY (b.windows || v_fill.windows) ORDER BY w.ord)
    WHERE b.board_id = p_board;
    PERFORM append_settings(p_board);
END;
$$;
