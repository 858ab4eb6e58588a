-- Events that are no submissions: users named, hidden, shown and erased, a board's settings, and what is made undone.

ALTER TABLE users
    -- Counted up with every change; boards have been told of those up to told_revision.
    ADD COLUMN revision      bigint NOT NULL DEFAULT 0,
    ADD COLUMN told_revision bigint NOT NULL DEFAULT 0 CHECK (told_revision <= revision);

-- Every place of a user among a board's totals, and some that may be empty: periods of windows that the board has had,
-- also in another time zone.
CREATE FUNCTION places_of(p_zone text, p_first timestamptz, p_last timestamptz)
RETURNS TABLE (time_window text, period date)
LANGUAGE sql STABLE
AS $$
    SELECT 'all', '-infinity'::date
    UNION ALL
    SELECT w.name, p.at::date
    FROM unnest('{day,week,month}'::text[]) w (name)
    CROSS JOIN LATERAL generate_series(
        period_of(w.name, p_zone, p_first) - ('1 ' || w.name)::interval,
        period_of(w.name, p_zone, p_last) + ('1 ' || w.name)::interval,
        ('1 ' || w.name)::interval
    ) p (at)
$$;

-- Appends an event that is no submission to the ledger of a board that is locked, with the state of its user.
-- Given are its kind, user, points, score_after, hidden, detail and what it revokes.
CREATE FUNCTION append_event(p_board boards, p_event ledger, p_players bigint, OUT seq bigint, OUT at timestamptz)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_clock timestamptz;
BEGIN
    SELECT t.at, t.clock INTO at, v_clock FROM next_time(p_board) t;
    seq := p_board.seq + 1;
    INSERT INTO ledger (board_id, seq, kind, user_id, action_id, points, score_after, hidden, revokes, counted_at,
                        detail, at, day_after, week_after, month_after)
    SELECT p_board.board_id, append_event.seq, p_event.kind, p_event.user_id, p_event.action_id, p_event.points,
           p_event.score_after, p_event.hidden, p_event.revokes, p_event.counted_at, p_event.detail, append_event.at,
           max(t.score) FILTER (WHERE t.time_window = 'day'),
           max(t.score) FILTER (WHERE t.time_window = 'week'),
           max(t.score) FILTER (WHERE t.time_window = 'month')
    FROM unnest(array_remove(p_board.windows, 'all')) w (name)
    LEFT JOIN totals t ON t.board_id = p_board.board_id AND t.time_window = w.name
                      AND t.period = period_of(w.name, p_board.timezone, append_event.at)
                      AND t.user_id = p_event.user_id;
    UPDATE boards b
    SET seq = append_event.seq, players = b.players + p_players, last_at = append_event.at, clock_at = v_clock
    WHERE b.board_id = p_board.board_id;
END;
$$;

-- Hides or shows a user's totals of all periods, under another id or the same, and counts those who are shown in each.
-- Gives by how many they are more.
CREATE FUNCTION change_totals(p_board boards, p_total totals, p_user text, p_hidden boolean, OUT change bigint)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
BEGIN
    change := p_total.hidden::integer - p_hidden::integer;
    WITH changed AS (
        UPDATE totals t
        SET user_id = p_user, hidden = p_hidden
        FROM places_of(p_board.timezone, p_total.first_at, p_total.last_at) place
        WHERE t.board_id = p_board.board_id AND t.time_window = place.time_window AND t.period = place.period
          AND t.user_id = p_total.user_id
        RETURNING t.time_window, t.period
    )
    INSERT INTO periods AS p (board_id, time_window, period, players) -- of one with hidden users only there is none
    SELECT p_board.board_id, c.time_window, c.period, greatest(change_totals.change, 0)
    FROM changed c
    WHERE c.time_window <> 'all' AND change_totals.change <> 0
    ON CONFLICT (board_id, time_window, period) DO UPDATE SET players = p.players + change_totals.change;
END;
$$;

-- Makes a board show or hide a user as the user's own row says. No row: there is nothing to change.
CREATE FUNCTION show_user(p_board text, p_user text) RETURNS TABLE (epoch text, seq bigint, at timestamptz)
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
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    SELECT * INTO v_user FROM users u WHERE u.user_id = p_user;
    SELECT * INTO v_total FROM totals t
    WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = p_user;
    IF v_total.user_id IS NULL OR v_user.user_id IS NULL OR v_total.hidden = v_user.hidden THEN
        RETURN;
    END IF;
    v_change := change_totals(v_board, v_total, p_user, v_user.hidden);
    v_event.kind := CASE WHEN v_user.hidden THEN 'hide' ELSE 'unhide' END;
    v_event.user_id := p_user;
    v_event.points := 0;
    v_event.score_after := v_total.score;
    v_event.hidden := v_user.hidden;
    v_event.detail := CASE WHEN NOT v_user.hidden THEN jsonb_build_object(
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

-- Tells a board a user's display name. No row: the user has no score there.
CREATE FUNCTION name_user(p_board text, p_user text) RETURNS TABLE (epoch text, seq bigint, at timestamptz)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_board boards%ROWTYPE;
    v_total totals%ROWTYPE;
    v_event ledger%ROWTYPE;
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    SELECT * INTO v_total FROM totals t
    WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = p_user;
    IF v_total.user_id IS NULL THEN
        RETURN;
    END IF;
    v_event.kind := 'name';
    v_event.user_id := p_user;
    v_event.points := 0;
    v_event.score_after := v_total.score;
    v_event.hidden := v_total.hidden;
    v_event.detail := jsonb_build_object('name', (SELECT u.display_name FROM users u WHERE u.user_id = p_user));
    RETURN QUERY SELECT v_board.epoch, e.seq, e.at FROM append_event(v_board, v_event, 0) e;
END;
$$;

-- Puts another id in the place of a user's on a board, for good: in its events, which lose their keys and details, and
-- in the totals, which are not shown any more. The sums stay. No row: the user has no score there.
CREATE FUNCTION erase_user(p_board text, p_user text, p_pseudonym text)
RETURNS TABLE (epoch text, seq bigint, at timestamptz)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_board boards%ROWTYPE;
    v_total totals%ROWTYPE;
    v_event ledger%ROWTYPE;
    v_change bigint;
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    SELECT * INTO v_total FROM totals t
    WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = p_user;
    IF v_total.user_id IS NULL THEN
        RETURN;
    END IF;
    -- Hidden, so that a ranking which is yet to apply them does not show the pseudonym.
    UPDATE ledger l
    SET user_id = p_pseudonym, idempotency_key = NULL, detail = NULL, hidden = true
    WHERE l.board_id = p_board AND l.user_id = p_user;
    v_change := change_totals(v_board, v_total, p_pseudonym, true);
    v_event.kind := 'erase';
    v_event.user_id := p_pseudonym;
    v_event.points := 0;
    v_event.score_after := v_total.score;
    v_event.hidden := true;
    RETURN QUERY SELECT v_board.epoch, e.seq, e.at FROM append_event(v_board, v_event, v_change) e;
END;
$$;

-- What a user's total in a span of time was after the event p_through without the event p_seq and all that had been made
-- undone by then, on a board that counts the best or the last. Null: nothing is left, which makes it 0; what comes after
-- that has to be better on one of the best.
CREATE FUNCTION score_without(
    p_board boards, p_user text, p_seq bigint, p_through bigint, p_from timestamptz, p_to timestamptz
)
RETURNS bigint
LANGUAGE sql STABLE
AS $$
    SELECT CASE
               WHEN bool_or(e.stands) IS NOT TRUE THEN NULL
               WHEN p_board.operator = 'best'
                   THEN greatest(max(e.value) FILTER (WHERE e.stands), CASE WHEN bool_or(e.empties) THEN 0 END)
               ELSE (array_agg(e.value ORDER BY e.seq DESC) FILTER (WHERE e.stands))[1]
           END
    FROM (
        SELECT l.seq, coalesce(l.value, l.points) AS value,
               l.kind <> 'revoke' AND l.seq <> p_seq AND NOT EXISTS (
                   SELECT 1 FROM ledger r
                   WHERE r.board_id = l.board_id AND r.revokes = l.seq AND r.seq <= p_through
               ) AS stands,
               sum(CASE l.kind WHEN 'revoke' THEN -1 ELSE 1 END) OVER (ORDER BY l.at, l.seq) = 0 AS empties
        FROM ledger l
        WHERE l.board_id = p_board.board_id AND l.user_id = p_user AND l.at >= p_from AND l.seq <= p_through
          AND coalesce(l.counted_at, l.at) >= p_from AND coalesce(l.counted_at, l.at) < p_to
          AND (l.kind IN ('score', 'revoke') OR (l.kind = 'opening' AND p_to = 'infinity')) -- which is for 'all' only
    ) e
$$;

-- Makes an event undone by another one, in the periods in which it counted.
-- Outcomes: revoked, replayed (it had been before), not_found, not_revocable (it is no submission), invalid (a total
-- would leave its bounds).
CREATE FUNCTION revoke_event(p_board text, p_seq bigint, p_reason text)
RETURNS TABLE (
    outcome text, epoch text, seq bigint, user_id text, action_id text, points bigint, score bigint, at timestamptz,
    reason text, hidden boolean
)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_board   boards%ROWTYPE;
    v_revoked ledger%ROWTYPE;
    v_earlier ledger%ROWTYPE;
    v_total   totals%ROWTYPE;
    v_event   ledger%ROWTYPE;
    v_worst   bigint;
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    SELECT * INTO v_revoked FROM ledger l WHERE l.board_id = p_board AND l.seq = p_seq;
    IF v_board.board_id IS NULL OR v_revoked.seq IS NULL THEN
        RETURN QUERY SELECT 'not_found', v_board.epoch, p_seq, NULL, NULL, NULL::bigint, NULL::bigint, NULL::timestamptz, NULL, NULL::boolean;
        RETURN;
    END IF;
    SELECT * INTO v_earlier FROM ledger l WHERE l.board_id = p_board AND l.revokes = p_seq;
    IF v_earlier.seq IS NOT NULL THEN
        RETURN QUERY SELECT 'replayed', v_board.epoch, v_earlier.seq, v_earlier.user_id, v_earlier.action_id,
                            v_earlier.points, v_earlier.score_after, v_earlier.at, v_earlier.detail ->> 'reason',
                            v_earlier.hidden;
        RETURN;
    END IF;
    IF v_revoked.kind <> 'score' THEN
        RETURN QUERY SELECT 'not_revocable', v_board.epoch, p_seq, v_revoked.user_id, v_revoked.action_id,
                            NULL::bigint, NULL::bigint, NULL::timestamptz, NULL, NULL::boolean;
        RETURN;
    END IF;
    SELECT * INTO v_total FROM totals t
    WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity' AND t.user_id = v_revoked.user_id;
    v_event.kind := 'revoke';
    v_event.user_id := v_revoked.user_id;
    v_event.action_id := v_revoked.action_id;
    v_event.hidden := v_total.hidden;
    v_event.revokes := p_seq;
    v_event.counted_at := v_revoked.at;
    v_event.detail := jsonb_build_object('reason', p_reason);
    IF v_board.operator = 'sum' THEN
        v_event.score_after := greatest(v_total.score - v_revoked.points, v_board.floor);
    ELSE
        v_event.score_after := coalesce(
            score_without(v_board, v_revoked.user_id, p_seq, v_board.seq, '-infinity', 'infinity'), 0);
    END IF;
    v_event.points := v_event.score_after - v_total.score;

    SELECT max(greatest(abs(t.score), abs(t.score + v_event.points))) INTO v_worst
    FROM places_of(v_board.timezone, v_revoked.at, v_revoked.at) place
    JOIN totals t ON t.board_id = p_board AND t.time_window = place.time_window AND t.period = place.period
                 AND t.user_id = v_revoked.user_id
    WHERE v_board.operator = 'sum' AND (place.time_window = 'all'
          OR place.period = period_of(place.time_window, v_board.timezone, v_revoked.at));
    IF greatest(v_worst, abs(v_event.score_after), abs(v_event.points)) > 9007199254740991 THEN
        RETURN QUERY SELECT 'invalid', v_board.epoch, p_seq, v_revoked.user_id, v_revoked.action_id,
                            NULL::bigint, NULL::bigint, NULL::timestamptz, NULL, NULL::boolean;
        RETURN;
    END IF;

    UPDATE totals t
    SET score = renewed.score,
        reached_seq = CASE WHEN renewed.score <> t.score THEN v_board.seq + 1 ELSE t.reached_seq END
    FROM unnest(v_board.windows) w (name)
    CROSS JOIN LATERAL (
        SELECT CASE w.name WHEN 'all' THEN '-infinity'::date
                           ELSE period_of(w.name, v_board.timezone, v_revoked.at) END AS period
    ) p
    CROSS JOIN LATERAL (
        SELECT CASE
                   WHEN w.name = 'all' THEN v_event.score_after
                   WHEN v_board.operator = 'sum' THEN before.score + v_event.points
                   ELSE coalesce(score_without(
                       v_board, v_revoked.user_id, p_seq, v_board.seq, period_start(v_board.timezone, p.period),
                       period_end(w.name, v_board.timezone, p.period)), 0)
               END AS score
        FROM totals before
        WHERE before.board_id = p_board AND before.time_window = w.name AND before.period = p.period
          AND before.user_id = v_revoked.user_id
    ) renewed
    WHERE t.board_id = p_board AND t.time_window = w.name AND t.period = p.period AND t.user_id = v_revoked.user_id;
    RETURN QUERY
    SELECT 'revoked', v_board.epoch, e.seq, v_event.user_id, v_event.action_id, v_event.points, v_event.score_after,
           e.at, p_reason, v_event.hidden
    FROM append_event(v_board, v_event, 0) e;
END;
$$;
