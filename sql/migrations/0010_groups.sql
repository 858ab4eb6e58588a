-- Groups: lists of users, within which a board is ranked when somebody asks. And an index for boards of the past.

CREATE TABLE groups (
    board_id text    COLLATE "C" NOT NULL REFERENCES boards,
    group_id text    COLLATE "C" NOT NULL CHECK (group_id ~ '^[A-Za-z0-9._-]{1,64}$'),
    -- Names this state of the list. Drawn, not counted: a group that was deleted and made again has no old one.
    revision text    NOT NULL DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 12)
                     CHECK (revision ~ '^[a-z0-9]{12}$'),
    -- Users on the list, so that no list of groups has to count them.
    members  integer NOT NULL DEFAULT 0 CHECK (members >= 0),
    PRIMARY KEY (board_id, group_id)
);

-- No foreign key: whoever writes here holds the group's row, and ten thousand checks could find nothing wrong.
CREATE TABLE group_members (
    board_id text COLLATE "C" NOT NULL,
    group_id text COLLATE "C" NOT NULL,
    user_id  text COLLATE "C" NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 64),
    PRIMARY KEY (board_id, group_id, user_id)
);

-- The groups of a user who is to be forgotten.
CREATE INDEX group_members_groups ON group_members (user_id, board_id, group_id);

-- Makes a group of a board have these members and no others. The revision stays where nothing changed.
-- Outcomes: created, changed, no_board, too_many (the board has so many groups already).
CREATE FUNCTION put_group(p_board text, p_group text, p_members text[], p_groups_max bigint, OUT outcome text)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
DECLARE
    v_left   bigint;
    v_joined bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM boards b WHERE b.board_id = p_board) THEN
        outcome := 'no_board';
        RETURN;
    END IF;
    -- Those who put groups of one board take turns, else two could each make the last one that the board may have.
    -- The board's own row is not locked for that: submissions would wait.
    PERFORM pg_advisory_xact_lock(hashtextextended('groups of ' || p_board, 0));
    PERFORM FROM groups g WHERE g.board_id = p_board AND g.group_id = p_group FOR UPDATE;
    outcome := CASE WHEN FOUND THEN 'changed' ELSE 'created' END;
    IF outcome = 'created' THEN
        IF (SELECT count(*) FROM groups g WHERE g.board_id = p_board) >= p_groups_max THEN
            outcome := 'too_many';
            RETURN;
        END IF;
        INSERT INTO groups (board_id, group_id) VALUES (p_board, p_group);
    END IF;
    DELETE FROM group_members m
    WHERE m.board_id = p_board AND m.group_id = p_group
      AND NOT EXISTS (SELECT FROM unnest(p_members) AS kept (user_id) WHERE kept.user_id = m.user_id);
    GET DIAGNOSTICS v_left = ROW_COUNT;
    INSERT INTO group_members (board_id, group_id, user_id)
    SELECT p_board, p_group, wanted.user_id
    FROM unnest(p_members) AS wanted (user_id)
    ORDER BY wanted.user_id COLLATE "C"
    ON CONFLICT (board_id, group_id, user_id) DO NOTHING;
    GET DIAGNOSTICS v_joined = ROW_COUNT;
    IF v_left + v_joined > 0 THEN
        UPDATE groups g
        SET members = cardinality(p_members), revision = DEFAULT
        WHERE g.board_id = p_board AND g.group_id = p_group;
    END IF;
END;
$$;

-- Deletes a group; false where there is none.
CREATE FUNCTION delete_group(p_board text, p_group text, OUT is_deleted boolean)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
BEGIN
    DELETE FROM groups g WHERE g.board_id = p_board AND g.group_id = p_group;
    is_deleted := FOUND;
    -- A statement of its own, which sees what was put while the group's row was awaited.
    DELETE FROM group_members m WHERE is_deleted AND m.board_id = p_board AND m.group_id = p_group;
END;
$$;

-- Takes a user out of every group, and says out of how many.
CREATE FUNCTION leave_groups(p_user text, OUT groups_left bigint)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
DECLARE
    v_boards text[];
    v_groups text[];
BEGIN
    -- All locked first, in one order, as whoever writes to one of them does: nobody waits for each other.
    SELECT array_agg(locked.board_id), array_agg(locked.group_id) INTO v_boards, v_groups
    FROM (
        SELECT g.board_id, g.group_id
        FROM group_members m
        JOIN groups g ON g.board_id = m.board_id AND g.group_id = m.group_id
        WHERE m.user_id = p_user
        ORDER BY g.board_id, g.group_id
        FOR UPDATE OF g
    ) locked;
    WITH gone AS (
        DELETE FROM group_members m
        USING unnest(v_boards, v_groups) AS locked (board_id, group_id)
        WHERE m.board_id = locked.board_id AND m.group_id = locked.group_id AND m.user_id = p_user
        RETURNING m.board_id, m.group_id
    )
    UPDATE groups g
    SET members = g.members - 1, revision = DEFAULT
    FROM gone
    WHERE g.board_id = gone.board_id AND g.group_id = gone.group_id;
    GET DIAGNOSTICS groups_left = ROW_COUNT;
END;
$$;

-- Those whom no board of the past may show either: few, and looking at each user's total took half of the time.
CREATE INDEX totals_hidden ON totals (board_id, user_id) WHERE time_window = 'all' AND hidden;
