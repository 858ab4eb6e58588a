-- Who is hidden stays hidden: before the first score, on one board alone, and through erasure.
--
-- Nothing names an erased user any more. If such a user was hidden, a digest of the id is remembered, made with a key
-- that is not in the database (or, where none was given, in a table of its own), so that whoever has the table can't try
-- ids out. It is looked at when a user gets a first score on a board. A match moves what is remembered back to where it
-- was, under the id, so each fact is in one place: under the id or under the digest.

-- Users who are hidden on one board. Each of them is in users too, as somebody who is known.
CREATE TABLE hidden_on_boards (
    board_id text COLLATE "C" NOT NULL REFERENCES boards ON DELETE CASCADE,
    user_id  text COLLATE "C" NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 64),
    PRIMARY KEY (board_id, user_id)
);

-- The boards of a user who is to be forgotten.
CREATE INDEX hidden_on_boards_users ON hidden_on_boards (user_id);

-- Where erased users are hidden: on a board, or everywhere (an empty id).
CREATE TABLE hidden_digests (
    digest   bytea NOT NULL CHECK (octet_length(digest) = 32),
    board_id text  COLLATE "C" NOT NULL,
    PRIMARY KEY (digest, board_id)
);

-- Whether a user is hidden, of whom most are not.
CREATE INDEX users_hidden ON users (user_id) WHERE hidden;

-- When users have erased themselves, by their digests, as long as that keeps them from doing it again.
CREATE TABLE self_erasures (
    digest bytea       PRIMARY KEY CHECK (octet_length(digest) = 32),
    at     timestamptz NOT NULL
);

-- Those that are over.
CREATE INDEX self_erasures_at ON self_erasures (at);

-- Secrets that all servers of this database share where no setting gives them one. Of one that a setting gives, only the
-- fingerprint is here, so that a server with another one notices.
CREATE TABLE server_keys (
    name        text PRIMARY KEY CHECK (name IN ('digest', 'demo')),
    secret      text,
    fingerprint text NOT NULL
);

-- Users of a file who are hidden on its board alone.
ALTER TABLE import_users ADD COLUMN hidden_here boolean NOT NULL DEFAULT false;

-- Whether a board shall hide a user.
CREATE FUNCTION is_hidden(p_board text, p_user text) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (SELECT FROM users u WHERE u.user_id = p_user AND u.hidden)
        OR EXISTS (SELECT FROM hidden_on_boards h WHERE h.board_id = p_board AND h.user_id = p_user)
$$;

-- Finds the key with which digests are made, or keeps one. Outcomes: agreed (it is the given one), kept (it is in the
-- secret), differs (there are digests, made with another than the given one), missing (there are digests, made with one
-- that was given to other servers).
CREATE FUNCTION agree_on_digest_key(
    p_fingerprint text, p_drawn text, p_drawn_fingerprint text, OUT outcome text, OUT secret text
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_key     server_keys%ROWTYPE;
    v_in_use  boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('the key of digests', 0));
    SELECT * INTO v_key FROM server_keys k WHERE k.name = 'digest';
    v_in_use := EXISTS (SELECT FROM hidden_digests);
    IF v_key.fingerprint = p_fingerprint THEN
        outcome := 'agreed';
    ELSIF p_fingerprint IS NULL AND v_key.secret IS NOT NULL THEN
        outcome := 'kept';
        secret := v_key.secret;
    ELSIF v_in_use THEN
        outcome := CASE WHEN p_fingerprint IS NULL THEN 'missing' ELSE 'differs' END;
    ELSE
        outcome := CASE WHEN p_fingerprint IS NULL THEN 'kept' ELSE 'agreed' END;
        secret := CASE WHEN p_fingerprint IS NULL THEN p_drawn END;
        INSERT INTO server_keys AS k (name, secret, fingerprint)
        VALUES ('digest', agree_on_digest_key.secret, coalesce(p_fingerprint, p_drawn_fingerprint))
        ON CONFLICT (name) DO UPDATE SET secret = excluded.secret, fingerprint = excluded.fingerprint;
    END IF;
END;
$$;

-- Knows users again who were hidden when they were erased; gives how many.
CREATE FUNCTION recall_users(p_users text[], p_digests bytea[]) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_recalled bigint;
BEGIN
    WITH asked AS (
        SELECT DISTINCT a.user_id COLLATE "C" AS user_id, a.digest
        FROM unnest(p_users, p_digests) AS a (user_id, digest)
    ),
    moved AS (
        DELETE FROM hidden_digests h
        USING asked a
        WHERE h.digest = a.digest
        RETURNING a.user_id, h.board_id
    ),
    known AS (
        INSERT INTO users AS u (user_id, hidden)
        SELECT m.user_id, bool_or(m.board_id = '')
        FROM moved m
        GROUP BY m.user_id
        ORDER BY m.user_id
        ON CONFLICT (user_id) DO UPDATE SET hidden = u.hidden OR excluded.hidden
        RETURNING u.user_id
    ),
    alone AS (
        INSERT INTO hidden_on_boards (board_id, user_id)
        SELECT m.board_id, m.user_id
        FROM moved m
        JOIN boards b ON b.board_id = m.board_id -- it may be gone
        ON CONFLICT (board_id, user_id) DO NOTHING
    )
    SELECT count(*) INTO v_recalled FROM known;
    RETURN v_recalled;
END;
$$;

-- Whether a first score is of somebody who is hidden, at the moment that the statement sees which asks. Fails for somebody
-- who is remembered, or may be where there is no digest to tell: see submit_scores. By itself, so that a statement about
-- users who play already has nothing of it to set up.
CREATE FUNCTION is_hidden_at_first(p_board text, p_user text, p_has_no_digest boolean, p_digest bytea) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_is_unsure boolean;
    v_is_hidden boolean;
BEGIN
    SELECT (p_has_no_digest AND EXISTS (SELECT FROM hidden_digests))
               OR EXISTS (SELECT FROM hidden_digests h WHERE h.digest = p_digest),
           EXISTS (SELECT FROM users u WHERE u.user_id = p_user AND u.hidden)
               OR EXISTS (SELECT FROM hidden_on_boards h WHERE h.board_id = p_board AND h.user_id = p_user)
    INTO v_is_unsure, v_is_hidden;
    IF v_is_unsure THEN
        RAISE EXCEPTION 'user ''%'' may have to be known again', p_user USING ERRCODE = 'SB002';
    END IF;
    RETURN v_is_hidden;
END;
$$;

-- Forgets what is known of a user beyond scores, but for where the user is hidden.
CREATE FUNCTION forget_user(p_user text, p_digest bytea) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    WITH gone AS (
        DELETE FROM users u WHERE u.user_id = p_user RETURNING u.hidden
    )
    INSERT INTO hidden_digests (digest, board_id)
    SELECT p_digest, '' FROM gone g WHERE g.hidden
    ON CONFLICT (digest, board_id) DO NOTHING;
    WITH gone AS (
        DELETE FROM hidden_on_boards h WHERE h.user_id = p_user RETURNING h.board_id
    )
    INSERT INTO hidden_digests (digest, board_id)
    SELECT p_digest, g.board_id FROM gone g
    ON CONFLICT (digest, board_id) DO NOTHING;
END;
$$;

-- Gives a user a display name (null: none); boards are yet to be told, unless it was this one already.
CREATE FUNCTION put_user(p_user text, p_name text, p_digest bytea) RETURNS SETOF users
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM recall_users(ARRAY[p_user], ARRAY[p_digest]);
    RETURN QUERY
    INSERT INTO users AS u (user_id, display_name, revision)
    VALUES (p_user, p_name, 1)
    ON CONFLICT (user_id) DO UPDATE
    SET display_name = excluded.display_name,
        revision = u.revision + CASE WHEN u.display_name IS DISTINCT FROM excluded.display_name THEN 1 ELSE 0 END
    RETURNING u.*;
END;
$$;

-- Hides a user everywhere, whether known or not, or shows one again; boards are yet to be told, unless it was so
-- already. No row: nothing is known of the user whom to show.
CREATE FUNCTION put_hidden(p_user text, p_hidden boolean, p_digest bytea) RETURNS SETOF users
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM recall_users(ARRAY[p_user], ARRAY[p_digest]);
    IF NOT p_hidden THEN
        RETURN QUERY
        UPDATE users u
        SET hidden = false, revision = u.revision + u.hidden::integer
        WHERE u.user_id = p_user
        RETURNING u.*;
        RETURN;
    END IF;
    RETURN QUERY
    INSERT INTO users AS u (user_id, hidden, revision)
    VALUES (p_user, true, 1)
    ON CONFLICT (user_id) DO UPDATE
    SET hidden = true, revision = u.revision + (NOT u.hidden)::integer
    RETURNING u.*;
END;
$$;

-- Makes a board show or hide a user as is known of the user. No row: there is nothing to change. Nor is it for a
-- pseudonym, which nothing shows again.
CREATE OR REPLACE FUNCTION show_user(p_board text, p_user text) RETURNS TABLE (epoch text, seq bigint, at timestamptz)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_board   boards%ROWTYPE;
    v_user    users%ROWTYPE;
    v_total   totals%ROWTYPE;
    v_event   ledger%ROWTYPE;
    v_change  bigint;
    v_hidden  boolean;
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    SELECT * INTO v_user FROM users u WHERE u.user_id = p_user;
    SELECT * INTO v_total FROM totals t
    WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = p_user;
    v_hidden := is_hidden(p_board, p_user);
    IF v_total.user_id IS NULL OR v_user.user_id IS NULL OR v_total.hidden = v_hidden THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM ledger l WHERE l.board_id = p_board AND l.user_id = p_user AND l.kind = 'erase') THEN
        RETURN;
    END IF;
    v_change := change_totals(v_board, v_total, p_user, v_hidden);
    v_event.kind := CASE WHEN v_hidden THEN 'hide' ELSE 'unhide' END;
    v_event.user_id := p_user;
    v_event.points := 0;
    v_event.score_after := v_total.score;
    v_event.hidden := v_hidden;
    v_event.detail := CASE WHEN NOT v_hidden THEN jsonb_build_object(
        'name', v_user.display_name,
        'reached', (SELECT jsonb_object_agg(t.time_window, t.reached_seq)
                    FROM unnest(v_board.windows) w (name)
                    JOIN totals t ON t.board_id = p_board AND t.time_window = w.name AND t.user_id = p_user
                                 AND t.period = CASE w.name WHEN 'all' THEN '-infinity'::date
                                     ELSE period_of(w.name, v_board.timezone, greatest(clock_timestamp(), v_board.last_at)) END)
    ) END;
    RETURN QUERY SELECT v_board.epoch, e.seq, e.at FROM append_event(v_board, v_event, v_change) e;
END;
$$;

-- Hides a user on one board alone, whether known or not, or ends that, and makes the board show or hide the user
-- accordingly. The board is locked first, so that no first score comes in between. No row: there is no such board.
CREATE FUNCTION hide_on_board(p_board text, p_user text, p_hidden boolean, p_digest bytea)
RETURNS TABLE (name text, hidden boolean, is_known boolean, epoch text, seq bigint, at timestamptz)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM recall_users(ARRAY[p_user], ARRAY[p_digest]);
    IF p_hidden THEN
        INSERT INTO users (user_id) VALUES (p_user) ON CONFLICT (user_id) DO NOTHING;
        INSERT INTO hidden_on_boards (board_id, user_id) VALUES (p_board, p_user)
        ON CONFLICT (board_id, user_id) DO NOTHING;
    ELSE
        DELETE FROM hidden_on_boards h WHERE h.board_id = p_board AND h.user_id = p_user;
    END IF;
    RETURN QUERY
    SELECT u.display_name, is_hidden(p_board, p_user), u.user_id IS NOT NULL, e.epoch, e.seq, e.at
    FROM (SELECT 1) one
    LEFT JOIN users u ON u.user_id = p_user
    LEFT JOIN LATERAL show_user(p_board, p_user) e ON true;
END;
$$;

-- Makes the users of an imported board known, those who are not yet, and has it show and hide who is known to be shown and
-- hidden, where the file says otherwise; gives the number of events for that. Other boards are told by tell_users.
CREATE OR REPLACE FUNCTION know_users(p_board text) RETURNS bigint
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
    INSERT INTO hidden_on_boards (board_id, user_id)
    SELECT p_board, i.user_id
    FROM import_users i
    WHERE i.board_id = p_board AND i.hidden_here
    ON CONFLICT (board_id, user_id) DO NOTHING;
    FOR v_user IN
        SELECT here.user_id
        FROM totals here
        CROSS JOIN LATERAL (
            SELECT k.hidden
            FROM users k
            WHERE k.user_id = here.user_id
            LIMIT 1
        ) u
        LEFT JOIN LATERAL (
            SELECT h.user_id
            FROM hidden_on_boards h
            WHERE h.board_id = p_board AND h.user_id = here.user_id
            LIMIT 1
        ) alone ON true
        WHERE here.board_id = p_board AND here.time_window = 'all' AND here.period = '-infinity'
          AND here.hidden <> (u.hidden OR alone.user_id IS NOT NULL)
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
CREATE OR REPLACE FUNCTION tell_users(p_board text, p_limit bigint, OUT users bigint, OUT boards text[])
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
        SELECT t.board_id, t.user_id, t.hidden <> is_hidden(t.board_id, t.user_id) AS is_to_show,
               u.display_name IS NOT NULL AS is_to_name
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
        WHERE b.board_id <> p_board
          AND (t.hidden <> is_hidden(t.board_id, t.user_id) OR u.display_name IS NOT NULL)
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

DROP FUNCTION submit_scores(text, text[], text[], text[], bigint[]);
DROP FUNCTION submit_scores_in_windows(
    boards, timestamptz, timestamptz, timestamptz, text[], text[], text[], bigint[]);
DROP FUNCTION rule_on_scores(
    text, boolean, timestamptz, timestamptz, text[], text[], text[], bigint[]);

-- What becomes of each submission of a batch: see submit_scores. Nothing is written. Inlined where it is called.
-- Whether a total keeps its bounds is asked here on boards that count plain sums; others ask themselves.
CREATE FUNCTION rule_on_scores(
    p_board text, p_is_plain boolean, p_at timestamptz, p_today timestamptz,
    p_users text[], p_actions text[], p_keys text[], p_points bigint[], p_digests bytea[]
)
RETURNS TABLE (
    ord integer, user_id text, action_id text, key text, value bigint, points_min bigint, points_max bigint,
    cooldown_seconds integer, daily_cap integer, used_at timestamptz,
    prior_seq bigint, prior_points bigint, prior_score bigint, prior_at timestamptz,
    before bigint, reached bigint, hidden boolean, name text, ruling text
)
LANGUAGE sql STABLE
AS $$
    WITH asked AS (
        SELECT a.ord::integer AS ord, a.user_id COLLATE "C" AS user_id, a.action_id COLLATE "C" AS action_id,
               a.key COLLATE "C" AS key, a.points, a.digest
        FROM unnest(p_users, p_actions, p_keys, p_points, p_digests) WITH ORDINALITY
             AS a (user_id, action_id, key, points, digest, ord)
    ),
    judged AS (
        SELECT asked.ord, asked.user_id, asked.action_id, asked.key, coalesce(asked.points, action.points) AS value,
               action.points_min, action.points_max, action.cooldown_seconds, action.daily_cap,
               action.cooldown_seconds > 0 OR action.daily_cap IS NOT NULL AS limited,
               prior.seq AS prior_seq, prior.points AS prior_points,
               prior.score_after AS prior_score, prior.at AS prior_at,
               total.score AS before, total.reached_seq AS reached,
               CASE WHEN total.score IS NOT NULL THEN total.hidden
                    ELSE is_hidden_at_first(p_board, asked.user_id, p_digests IS NULL, asked.digest) END AS hidden,
               person.display_name AS name,
               CASE
                   WHEN prior.board_id = p_board AND prior.action_id = asked.action_id
                        AND (asked.points IS NULL OR asked.points = coalesce(prior.value, prior.points)) THEN 'replayed'
                   WHEN prior.seq IS NOT NULL THEN 'idempotency_mismatch'
                   WHEN action.action_id IS NULL THEN 'unknown_action'
                   WHEN NOT action.enabled THEN 'action_disabled'
                   WHEN action.points IS NOT NULL AND asked.points IS NOT NULL THEN 'points_fixed'
                   WHEN action.points IS NULL AND asked.points IS NULL THEN 'points_needed'
                   WHEN asked.points NOT BETWEEN action.points_min AND action.points_max THEN 'points_out_of_bounds'
                   WHEN p_is_plain AND cardinality(p_users) = 1 -- a lone one must not fail by a constraint
                        AND abs(coalesce(total.score, 0) + coalesce(asked.points, action.points)) > 9007199254740991
                       THEN 'invalid'
                   ELSE 'recorded'
               END AS verdict
        FROM asked
        -- One look each. As plain joins they read a whole board once there are no statistics, as after a restore.
        LEFT JOIN LATERAL (
            SELECT l.board_id, l.seq, l.action_id, l.points, l.value, l.score_after, l.at
            FROM ledger l
            WHERE l.user_id = asked.user_id AND l.idempotency_key = asked.key
            LIMIT 1
        ) prior ON true
        LEFT JOIN LATERAL (
            SELECT a.action_id, a.points, a.points_min, a.points_max, a.cooldown_seconds, a.daily_cap, a.enabled
            FROM actions a
            WHERE a.board_id = p_board AND a.action_id = asked.action_id
            LIMIT 1
        ) action ON true
        LEFT JOIN LATERAL (
            SELECT t.score, t.reached_seq, t.hidden
            FROM totals t
            WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity'
              AND t.user_id = asked.user_id
            LIMIT 1
        ) total ON true
        LEFT JOIN LATERAL (
            SELECT u.display_name
            FROM users u
            WHERE total.score IS NULL AND u.user_id = asked.user_id
            LIMIT 1
        ) person ON true
    ),
    -- Cooldown and cap look at what is in the ledger and at the place among this batch's own uses. Equal times
    -- make that exact: of several uses at one instant a cooldown admits the first, a cap the first that fit.
    counted AS (
        SELECT j.*, used.last_at, used.today,
               count(*) FILTER (WHERE j.verdict = 'recorded')
                   OVER (PARTITION BY j.user_id, j.action_id ORDER BY j.ord) AS nth_use
        FROM judged j
        CROSS JOIN LATERAL (
            SELECT max(l.at) AS last_at, count(*) FILTER (WHERE l.at >= p_today) AS today
            FROM ledger l
            WHERE j.limited AND j.verdict = 'recorded' -- else the ledger is not looked at
              AND l.board_id = p_board AND l.user_id = j.user_id AND l.action_id = j.action_id AND l.kind = 'score'
              AND l.at >= least(p_today, p_at - make_interval(secs => j.cooldown_seconds))
        ) used
    )
    SELECT c.ord, c.user_id, c.action_id, c.key, c.value, c.points_min, c.points_max, c.cooldown_seconds, c.daily_cap,
           -- When the cooldown began: at the last use in the ledger, or at the one just before in this batch.
           CASE WHEN c.last_at + make_interval(secs => c.cooldown_seconds) > p_at THEN c.last_at ELSE p_at END,
           c.prior_seq, c.prior_points, c.prior_score, c.prior_at, c.before, c.reached, c.hidden, c.name,
           CASE
               WHEN c.verdict <> 'recorded' OR NOT c.limited THEN c.verdict
               WHEN c.cooldown_seconds > 0
                    AND (c.nth_use > 1 OR c.last_at + make_interval(secs => c.cooldown_seconds) > p_at)
                   THEN 'cooldown'
               WHEN c.today + c.nth_use > c.daily_cap THEN 'daily_cap'
               ELSE c.verdict
           END
    FROM counted c
$$;

-- Appends a batch to a board with windows, a floor or another operator: see submit_scores, which calls it with the
-- board locked.
CREATE FUNCTION submit_scores_in_windows(
    p_board boards, p_at timestamptz, p_clock timestamptz, p_today timestamptz,
    p_users text[], p_actions text[], p_keys text[], p_points bigint[], p_digests bytea[]
)
RETURNS SETOF score_ruling
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_periods text := periods_at(p_board.windows, p_board.timezone, p_at);
    -- Null where the board has no such window.
    v_day   date := CASE WHEN 'day' = ANY (p_board.windows) THEN period_of('day', p_board.timezone, p_at) END;
    v_week  date := CASE WHEN 'week' = ANY (p_board.windows) THEN period_of('week', p_board.timezone, p_at) END;
    v_month date := CASE WHEN 'month' = ANY (p_board.windows) THEN period_of('month', p_board.timezone, p_at) END;
BEGIN
    RETURN QUERY
    WITH ruled AS (
        SELECT r.ord, r.user_id, r.action_id, r.key, r.value, r.points_min, r.points_max, r.cooldown_seconds,
               r.daily_cap, r.used_at, r.prior_seq, r.prior_points, r.prior_score, r.prior_at, r.before, r.reached,
               r.hidden, r.name,
               CASE
                   WHEN r.ruling = 'recorded' AND cardinality(p_users) = 1 -- a lone one must not fail by a constraint
                        AND greatest(
                            abs(alone.score), abs(alone.score - coalesce(r.before, 0)),
                            CASE WHEN p_board.operator = 'sum' THEN greatest(
                                abs(day.score + alone.score - coalesce(r.before, 0)),
                                abs(week.score + alone.score - coalesce(r.before, 0)),
                                abs(month.score + alone.score - coalesce(r.before, 0))) END
                        ) > 9007199254740991 THEN 'invalid'
                   ELSE r.ruling
               END AS ruling,
               day.score AS day_before, day.reached_seq AS day_reached,
               week.score AS week_before, week.reached_seq AS week_reached,
               month.score AS month_before, month.reached_seq AS month_reached
        FROM rule_on_scores(p_board.board_id, false, p_at, p_today, p_users, p_actions, p_keys, p_points, p_digests) r
        CROSS JOIN LATERAL (
            SELECT CASE p_board.operator
                       WHEN 'sum' THEN greatest(coalesce(r.before, 0) + r.value, p_board.floor)
                       WHEN 'best' THEN greatest(r.before, r.value)
                       ELSE r.value
                   END AS score
        ) alone
        LEFT JOIN LATERAL (
            SELECT t.score, t.reached_seq
            FROM totals t
            WHERE v_day IS NOT NULL AND t.board_id = p_board.board_id AND t.time_window = 'day' AND t.period = v_day
              AND t.user_id = r.user_id
            LIMIT 1
        ) day ON true
        LEFT JOIN LATERAL (
            SELECT t.score, t.reached_seq
            FROM totals t
            WHERE v_week IS NOT NULL AND t.board_id = p_board.board_id AND t.time_window = 'week' AND t.period = v_week
              AND t.user_id = r.user_id
            LIMIT 1
        ) week ON true
        LEFT JOIN LATERAL (
            SELECT t.score, t.reached_seq
            FROM totals t
            WHERE v_month IS NOT NULL AND t.board_id = p_board.board_id AND t.time_window = 'month'
              AND t.period = v_month AND t.user_id = r.user_id
            LIMIT 1
        ) month ON true
    ),
    numbered AS (
        SELECT r.*, p_board.seq + row_number() OVER (ORDER BY r.ord) AS seq,
               row_number() OVER so_far AS nth, count(*) OVER (PARTITION BY r.user_id) AS of_user,
               coalesce(r.before, 0) + sum(r.value) OVER so_far AS running,
               max(r.value) OVER so_far AS raised
        FROM ruled r
        WHERE r.ruling = 'recorded'
        WINDOW so_far AS (PARTITION BY r.user_id ORDER BY r.ord)
    ),
    scored AS (
        SELECT n.*,
               CASE p_board.operator
                   -- As if each event had been lifted to the floor by itself, whatever the others did.
                   WHEN 'sum' THEN n.running + greatest(max(p_board.floor - n.running) OVER so_far, 0)
                   WHEN 'best' THEN greatest(n.before, n.raised)
                   ELSE n.value
               END::bigint AS score
        FROM numbered n
        WINDOW so_far AS (PARTITION BY n.user_id ORDER BY n.ord)
    ),
    changed AS (
        SELECT s.*, s.score - coalesce(lag(s.score) OVER so_far, s.before, 0) AS points
        FROM scored s
        WINDOW so_far AS (PARTITION BY s.user_id ORDER BY s.ord)
    ),
    windowed AS (
        SELECT c.*,
               CASE WHEN v_day IS NULL THEN NULL
                    WHEN p_board.operator = 'sum' THEN coalesce(c.day_before, 0) + sum(c.points) OVER so_far
                    WHEN p_board.operator = 'best' THEN greatest(c.day_before, c.raised)
                    ELSE c.value END::bigint AS day,
               CASE WHEN v_week IS NULL THEN NULL
                    WHEN p_board.operator = 'sum' THEN coalesce(c.week_before, 0) + sum(c.points) OVER so_far
                    WHEN p_board.operator = 'best' THEN greatest(c.week_before, c.raised)
                    ELSE c.value END::bigint AS week,
               CASE WHEN v_month IS NULL THEN NULL
                    WHEN p_board.operator = 'sum' THEN coalesce(c.month_before, 0) + sum(c.points) OVER so_far
                    WHEN p_board.operator = 'best' THEN greatest(c.month_before, c.raised)
                    ELSE c.value END::bigint AS month
        FROM changed c
        WINDOW so_far AS (PARTITION BY c.user_id ORDER BY c.ord)
    ),
    -- Since which event a score is what it is: the last that changed it, or the first.
    reaching AS (
        SELECT w.*,
               w.points <> 0 OR (w.nth = 1 AND w.before IS NULL) AS changes,
               w.day IS DISTINCT FROM coalesce(lag(w.day) OVER so_far, w.day_before) AS changes_day,
               w.week IS DISTINCT FROM coalesce(lag(w.week) OVER so_far, w.week_before) AS changes_week,
               w.month IS DISTINCT FROM coalesce(lag(w.month) OVER so_far, w.month_before) AS changes_month
        FROM windowed w
        WINDOW so_far AS (PARTITION BY w.user_id ORDER BY w.ord)
    ),
    fresh AS (
        SELECT r.*,
               coalesce(max(r.seq) FILTER (WHERE r.changes) OVER so_far, r.reached) AS reached_seq,
               coalesce(max(r.seq) FILTER (WHERE r.changes_day) OVER so_far, r.day_reached) AS day_reached_seq,
               coalesce(max(r.seq) FILTER (WHERE r.changes_week) OVER so_far, r.week_reached) AS week_reached_seq,
               coalesce(max(r.seq) FILTER (WHERE r.changes_month) OVER so_far, r.month_reached) AS month_reached_seq
        FROM reaching r
        WINDOW so_far AS (PARTITION BY r.user_id ORDER BY r.ord)
    ),
    appended AS (
        INSERT INTO ledger (board_id, seq, user_id, action_id, points, value, score_after, idempotency_key, at,
                            day_after, week_after, month_after, hidden)
        SELECT p_board.board_id, f.seq, f.user_id, f.action_id, f.points, nullif(f.value, f.points), f.score, f.key,
               p_at, f.day, f.week, f.month, f.hidden
        FROM fresh f
        ORDER BY f.seq
    ),
    totalled AS (
        INSERT INTO totals AS t (board_id, time_window, period, user_id, score, reached_seq, submissions,
                                 first_at, last_at, hidden)
        SELECT p_board.board_id, w.name, w.period, f.user_id, w.score, w.reached_seq, f.of_user, p_at, p_at, f.hidden
        FROM fresh f
        CROSS JOIN LATERAL (
            SELECT 'all' AS name, '-infinity'::date AS period, f.score, f.reached_seq
            UNION ALL SELECT 'day', v_day, f.day, f.day_reached_seq WHERE v_day IS NOT NULL
            UNION ALL SELECT 'week', v_week, f.week, f.week_reached_seq WHERE v_week IS NOT NULL
            UNION ALL SELECT 'month', v_month, f.month, f.month_reached_seq WHERE v_month IS NOT NULL
        ) w
        WHERE f.nth = f.of_user
        ON CONFLICT (board_id, time_window, period, user_id) DO UPDATE
        SET score = excluded.score, reached_seq = excluded.reached_seq,
            submissions = t.submissions + excluded.submissions, last_at = excluded.last_at
    ),
    gained AS (
        SELECT count(*) AS events, count(*) FILTER (WHERE f.before IS NULL) AS players,
               count(*) FILTER (WHERE f.day_before IS NULL) AS day_players,
               count(*) FILTER (WHERE f.week_before IS NULL) AS week_players,
               count(*) FILTER (WHERE f.month_before IS NULL) AS month_players
        FROM fresh f
        WHERE f.nth = 1 AND NOT f.hidden
    ),
    peopled AS (
        INSERT INTO periods AS p (board_id, time_window, period, players)
        SELECT p_board.board_id, w.name, w.period, w.players
        FROM gained g
        CROSS JOIN LATERAL (
            SELECT 'day' AS name, v_day AS period, g.day_players AS players WHERE v_day IS NOT NULL
            UNION ALL SELECT 'week', v_week, g.week_players WHERE v_week IS NOT NULL
            UNION ALL SELECT 'month', v_month, g.month_players WHERE v_month IS NOT NULL
        ) w
        WHERE w.players > 0
        ON CONFLICT (board_id, time_window, period) DO UPDATE SET players = p.players + excluded.players
    ),
    advanced AS (
        UPDATE boards b
        SET seq = b.seq + recorded.events, players = b.players + g.players, last_at = p_at, clock_at = p_clock
        FROM gained g, (SELECT count(*) AS events FROM fresh) recorded
        WHERE b.board_id = p_board.board_id AND recorded.events > 0
    ),
    told AS (
        SELECT f.ord, 'recorded' AS outcome, f.seq, f.points, f.score, p_at AS at, f.hidden,
               CASE WHEN v_periods IS NOT NULL THEN ARRAY[f.day, f.week, f.month] END AS windows, f.name,
               NULL::double precision AS retry_after_s, NULL::integer AS quota, NULL::integer AS window_s
        FROM fresh f
        UNION ALL
        SELECT r.ord, r.ruling, r.prior_seq,
               CASE r.ruling WHEN 'replayed' THEN r.prior_points WHEN 'points_out_of_bounds' THEN r.points_min END,
               CASE r.ruling WHEN 'replayed' THEN r.prior_score WHEN 'points_out_of_bounds' THEN r.points_max END,
               r.prior_at, NULL, NULL, NULL,
               extract(epoch FROM CASE r.ruling
                   WHEN 'cooldown' THEN r.used_at + make_interval(secs => r.cooldown_seconds) - p_at
                   WHEN 'daily_cap' THEN period_end('day', p_board.timezone, period_of('day', p_board.timezone, p_at)) - p_at
               END)::double precision,
               CASE r.ruling WHEN 'cooldown' THEN 1 WHEN 'daily_cap' THEN r.daily_cap END,
               CASE r.ruling WHEN 'cooldown' THEN r.cooldown_seconds WHEN 'daily_cap' THEN 86400 END
        FROM ruled r
        WHERE r.ruling <> 'recorded'
    )
    SELECT t.ord, t.outcome, p_board.epoch, CASE WHEN t.outcome IN ('recorded', 'replayed') THEN t.seq END,
           t.points, t.score, t.at, t.hidden, t.windows, t.name, v_periods, t.retry_after_s, t.quota, t.window_s,
           nullif(p_board.last_at, '-infinity')
    FROM told t
    ORDER BY t.ord;
END;
$$;

-- Appends a batch of submissions to one board's ledger: one round trip, one transaction.
--
-- The first statement locks the board's row, so batches of one board are serial, seq has no gaps and is in commit
-- order. A volatile PL/pgSQL function takes a new snapshot for each statement, so the next one sees everything
-- that was committed while the lock was awaited; a single statement for both would read stale totals.
--
-- All submissions of a batch get the same time. The batch must not hold one (user, key) pair twice, nor move a
-- total beyond +-(2^53-1) unless it is a batch of one: then a constraint fails the whole batch, nothing is
-- recorded, and the caller repeats the submissions one by one. A batch of one always gives an outcome.
--
-- Outcomes: recorded, replayed, idempotency_mismatch, unknown_action, action_disabled, cooldown, daily_cap, invalid,
-- points_needed (the action has bounds; nobody said how many), points_fixed (somebody did, and it has none),
-- points_out_of_bounds. No row at all: the board does not exist.
--
-- Whoever was hidden when erased is hidden again from the first score on. Digests tell who that is; they may be null as
-- long as nobody is remembered by one. Those who are remembered are known again before anything is ruled on. An erasure
-- may be committed in between, so the ruling looks again: at its moment a user is either known to be hidden or
-- remembered. Where a first score may be of somebody remembered it fails with SB002, nothing is recorded, and the caller
-- repeats the batch with digests.
--
-- Most boards have one window and count plain sums. They have a statement of their own, because the one for all
-- boards took them a fifth longer.
CREATE FUNCTION submit_scores(
    p_board text, p_users text[], p_actions text[], p_keys text[], p_points bigint[] DEFAULT NULL,
    p_digests bytea[] DEFAULT NULL
)
RETURNS SETOF score_ruling
LANGUAGE plpgsql VOLATILE
-- Every join below is from a small batch into a large table: index probes, whatever the statistics say on a young
-- table. A cached plan with a table scan would outlive the table's youth.
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_board     boards%ROWTYPE;
    v_at        timestamptz;
    v_clock     timestamptz;
    v_today     timestamptz;
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF p_digests IS NOT NULL THEN
        PERFORM recall_users(p_users, p_digests);
    END IF;
    v_at := date_trunc('milliseconds', clock_timestamp());
    v_clock := v_at;
    IF v_at < v_board.last_at THEN
        SELECT t.at, t.clock INTO v_at, v_clock FROM next_time(v_board) t;
    END IF;
    v_today := date_trunc('day', v_at AT TIME ZONE v_board.timezone) AT TIME ZONE v_board.timezone;
    IF v_today > v_at THEN -- between the two midnights of a day on which clocks are set back over it
        v_today := period_start(v_board.timezone, period_of('day', v_board.timezone, v_at));
    END IF;
    IF cardinality(v_board.windows) > 1 OR v_board.operator <> 'sum' OR v_board.floor IS NOT NULL THEN
        RETURN QUERY
        SELECT * FROM submit_scores_in_windows(
            v_board, v_at, v_clock, v_today, p_users, p_actions, p_keys, p_points, p_digests);
        RETURN;
    END IF;

    RETURN QUERY
    WITH ruled AS (
        SELECT *
        FROM rule_on_scores(p_board, true, v_at, v_today, p_users, p_actions, p_keys, p_points, p_digests)
    ),
    -- Running numbers beside every row rather than a join of the recorded ones back to all: with hash and merge
    -- joins off that would compare each row with each.
    numbered AS (
        SELECT r.*,
               v_board.seq + count(*) FILTER (WHERE r.ruling = 'recorded') OVER (ORDER BY r.ord) AS seq,
               (coalesce(r.before, 0) + sum(r.value) FILTER (WHERE r.ruling = 'recorded') OVER so_far)::bigint AS score,
               count(*) FILTER (WHERE r.ruling = 'recorded') OVER so_far AS nth,
               count(*) FILTER (WHERE r.ruling = 'recorded') OVER (PARTITION BY r.user_id) AS of_user
        FROM ruled r
        WINDOW so_far AS (PARTITION BY r.user_id ORDER BY r.ord)
    ),
    appended AS (
        INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, idempotency_key, at, hidden)
        SELECT p_board, n.seq, n.user_id, n.action_id, n.value, n.score, n.key, v_at, n.hidden
        FROM numbered n
        WHERE n.ruling = 'recorded'
        ORDER BY n.seq
    ),
    totalled AS (
        INSERT INTO totals AS t (board_id, time_window, period, user_id, score, reached_seq, submissions,
                                 first_at, last_at, hidden)
        SELECT p_board, 'all', '-infinity', n.user_id, n.score,
               CASE
                   WHEN n.value <> 0 THEN n.seq
                   ELSE coalesce( -- it has left the score as it was: since the last that did not, or the first
                       (SELECT max(o.seq) FROM numbered o
                        WHERE o.user_id = n.user_id AND o.ruling = 'recorded'
                          AND (o.value <> 0 OR (o.nth = 1 AND o.before IS NULL))),
                       n.reached)
               END,
               n.nth, v_at, v_at, n.hidden
        FROM numbered n
        WHERE n.ruling = 'recorded' AND n.nth = n.of_user
        ON CONFLICT (board_id, time_window, period, user_id) DO UPDATE
        SET score = excluded.score, reached_seq = excluded.reached_seq,
            submissions = t.submissions + excluded.submissions, last_at = excluded.last_at
    ),
    advanced AS (
        UPDATE boards b
        SET seq = b.seq + gained.events, players = b.players + gained.players, last_at = v_at, clock_at = v_clock
        FROM (
            SELECT count(*) AS events,
                   count(*) FILTER (WHERE n.before IS NULL AND n.nth = 1 AND NOT n.hidden) AS players
            FROM numbered n
            WHERE n.ruling = 'recorded'
        ) gained
        WHERE b.board_id = p_board AND gained.events > 0
    )
    SELECT n.ord, n.ruling, v_board.epoch,
           CASE n.ruling WHEN 'recorded' THEN n.seq WHEN 'replayed' THEN n.prior_seq END,
           CASE n.ruling WHEN 'recorded' THEN n.value WHEN 'replayed' THEN n.prior_points
               WHEN 'points_out_of_bounds' THEN n.points_min END,
           CASE n.ruling WHEN 'recorded' THEN n.score WHEN 'replayed' THEN n.prior_score
               WHEN 'points_out_of_bounds' THEN n.points_max END,
           CASE n.ruling WHEN 'recorded' THEN v_at WHEN 'replayed' THEN n.prior_at END,
           n.hidden, NULL::bigint[], n.name, NULL::text,
           extract(epoch FROM CASE n.ruling
               WHEN 'cooldown' THEN n.used_at + make_interval(secs => n.cooldown_seconds) - v_at
               WHEN 'daily_cap' THEN period_end('day', v_board.timezone, period_of('day', v_board.timezone, v_at)) - v_at
           END)::double precision,
           CASE n.ruling WHEN 'cooldown' THEN 1 WHEN 'daily_cap' THEN n.daily_cap END,
           CASE n.ruling WHEN 'cooldown' THEN n.cooldown_seconds WHEN 'daily_cap' THEN 86400 END,
           nullif(v_board.last_at, '-infinity')
    FROM numbered n
    ORDER BY n.ord;
END;
$$;
