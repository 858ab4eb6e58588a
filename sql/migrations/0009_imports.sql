-- Boards that are being imported: closed to everybody until all of their events are in, however often that was
-- interrupted.
--
-- The events go into the ledger in portions, each committed with where it ends. Meanwhile the board's seq is 0 and it has
-- no totals, so nobody is shown any of them. Its time is the end of time, after which no event can come: whoever
-- appends one asks next_time for its time, which refuses. Submissions to other boards pay nothing for that.

CREATE TABLE imports (
    board_id text    COLLATE "C" PRIMARY KEY REFERENCES boards,
    -- 'loading', then 'ranking': all is in and the board open, its ranking yet to be made. 'discarding': events are
    -- being deleted from the ledger, so none may come in before that is done.
    stage    text    NOT NULL DEFAULT 'loading' CHECK (stage IN ('loading', 'ranking', 'discarding')),
    -- What of the file is in: lines, and events among them.
    lines    bigint  NOT NULL DEFAULT 0 CHECK (lines >= 0),
    events   bigint  NOT NULL DEFAULT 0 CHECK (events BETWEEN 0 AND lines),
    -- SHA-256 of these lines, in hexadecimal: tells whether a file is the one that was begun.
    digest   text    NOT NULL DEFAULT '',
    -- For giving up: whether the board was made for the import, and the windows it had.
    is_new   boolean NOT NULL,
    windows  text[]  NOT NULL
);

-- Users of a file, who become known when its board is opened.
CREATE TABLE import_users (
    board_id     text    COLLATE "C" NOT NULL,
    user_id      text    COLLATE "C" NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 64),
    display_name text    CHECK (char_length(display_name) BETWEEN 1 AND 100),
    hidden       boolean NOT NULL,
    PRIMARY KEY (board_id, user_id)
);

-- Closes an empty board for an import, and makes it if there is none; or says where an unfinished one stands.
-- Outcomes: begun, unfinished, has_events.
CREATE FUNCTION begin_import(
    p_board text, OUT outcome text, OUT stage text, OUT lines bigint, OUT events bigint, OUT digest text
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_board  boards%ROWTYPE;
    v_is_new boolean;
BEGIN
    SELECT 'unfinished', i.stage, i.lines, i.events, i.digest INTO outcome, stage, lines, events, digest
    FROM imports i
    WHERE i.board_id = p_board;
    IF FOUND THEN
        RETURN;
    END IF;
    INSERT INTO boards (board_id) VALUES (p_board) ON CONFLICT (board_id) DO NOTHING;
    v_is_new := FOUND;
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    stage := 'loading';
    lines := 0;
    events := v_board.seq;
    digest := '';
    IF v_board.seq > 0 THEN
        outcome := 'has_events';
        RETURN;
    END IF;
    INSERT INTO imports (board_id, is_new, windows) VALUES (p_board, v_is_new, v_board.windows);
    -- Windows have periods of now, and at the end of time there are none to be shown.
    UPDATE boards b SET last_at = end_of_time(), windows = '{all}' WHERE b.board_id = p_board;
    outcome := 'begun';
END;
$$;

-- Gives a board back as it was before an import of which nothing is in the ledger any more.
CREATE FUNCTION end_discard(p_board text) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_import imports%ROWTYPE;
BEGIN
    DELETE FROM import_users u WHERE u.board_id = p_board;
    DELETE FROM imports i WHERE i.board_id = p_board AND i.stage = 'discarding' RETURNING * INTO STRICT v_import;
    UPDATE boards b SET last_at = '-infinity', windows = v_import.windows WHERE b.board_id = p_board;
    IF v_import.is_new THEN -- unless somebody has given it actions or groups since
        DELETE FROM boards b
        WHERE b.board_id = p_board AND NOT EXISTS (SELECT 1 FROM actions a WHERE a.board_id = p_board)
          AND NOT EXISTS (SELECT 1 FROM groups g WHERE g.board_id = p_board);
    END IF;
END;
$$;

-- Opens a board whose events and totals are all there: from here on it is shown and takes submissions.
CREATE FUNCTION open_board(
    p_board text, p_epoch text, p_seq bigint, p_title text, p_windows text[], p_ties text, p_timezone text,
    p_operator text, p_floor bigint, p_created_at timestamptz
)
RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_last_at timestamptz;
BEGIN
    SELECT coalesce(max(l.at), '-infinity') INTO v_last_at
    FROM ledger l
    WHERE l.board_id = p_board AND l.seq = p_seq;
    DELETE FROM fills f WHERE f.board_id = p_board;
    UPDATE boards b
    SET epoch = coalesce(p_epoch, b.epoch), seq = p_seq, last_at = v_last_at, clock_at = v_last_at,
        players = (SELECT count(*) FROM totals t
                   WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity' AND NOT t.hidden),
        title = p_title, windows = p_windows, ties = p_ties, timezone = p_timezone, operator = p_operator,
        floor = p_floor, created_at = p_created_at
    WHERE b.board_id = p_board;
END;
$$;

-- Makes the users of an imported board known, those who are not yet, and has it show and hide who is known to be shown and
-- hidden, where the file says otherwise; gives the number of events for that. Other boards are told by tell_users.
CREATE FUNCTION know_users(p_board text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    v_user   text;
    v_events bigint := 0;
BEGIN
    INSERT INTO users AS u (user_id, display_name, hidden, revision)
    SELECT i.user_id, i.display_name, i.hidden, 1
    FROM import_users i
    WHERE i.board_id = p_board
    ON CONFLICT (user_id) DO NOTHING;
    FOR v_user IN
        SELECT here.user_id
        FROM totals here
        CROSS JOIN LATERAL (
            SELECT k.hidden
            FROM users k
            WHERE k.user_id = here.user_id
            LIMIT 1
        ) u
        WHERE here.board_id = p_board AND here.time_window = 'all' AND here.period = '-infinity'
          AND here.hidden <> u.hidden
        ORDER BY here.user_id
    LOOP
        PERFORM show_user(p_board, v_user);
        v_events := v_events + 1;
    END LOOP;
    RETURN v_events;
END;
$$;

-- Tells other boards of some users who became known by an import, where these have a total of them. Boards are locked as
-- long as that takes, so it is done by a few users at a time. Gives how many users that were, 0 when all boards have been
-- told, and the boards that got events, one after the other.
CREATE FUNCTION tell_users(p_board text, p_limit bigint, OUT users bigint, OUT boards text[])
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    v_users text[] := ARRAY(
        SELECT i.user_id FROM import_users i WHERE i.board_id = p_board ORDER BY i.user_id LIMIT p_limit);
    v_row   record;
BEGIN
    users := cardinality(v_users);
    boards := '{}';
    FOR v_row IN
        SELECT t.board_id, t.user_id, t.hidden <> u.hidden AS is_to_show, u.display_name IS NOT NULL AS is_to_name
        FROM unnest(v_users) i (user_id)
        CROSS JOIN LATERAL (
            SELECT k.user_id, k.display_name, k.hidden
            FROM users k
            WHERE k.user_id = i.user_id COLLATE "C" AND k.revision = 1 AND k.told_revision = 0
            LIMIT 1
        ) u
        CROSS JOIN boards b
        CROSS JOIN LATERAL (
            SELECT e.board_id, e.user_id, e.hidden
            FROM totals e
            WHERE e.board_id = b.board_id AND e.time_window = 'all' AND e.period = '-infinity' AND e.user_id = u.user_id
            LIMIT 1
        ) t
        WHERE b.board_id <> p_board AND (t.hidden <> u.hidden OR u.display_name IS NOT NULL)
        ORDER BY t.board_id, t.user_id
    LOOP
        IF v_row.is_to_show THEN
            PERFORM show_user(v_row.board_id, v_row.user_id);
        END IF;
        IF v_row.is_to_name THEN
            PERFORM name_user(v_row.board_id, v_row.user_id);
        END IF;
        boards := boards || v_row.board_id::text;
    END LOOP;
    UPDATE users u
    SET told_revision = u.revision
    WHERE u.user_id = ANY (v_users) AND u.revision = 1 AND u.told_revision = 0;
    DELETE FROM import_users i WHERE i.board_id = p_board AND i.user_id = ANY (v_users);
END;
$$;
