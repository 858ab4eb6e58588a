-- A board's time goes on when the clock is set back, and a batch says what it follows and reads only its own users.
--
-- `at` never falls. When the database's clock was set back (by hand, by a wrong time server, by failing over to a
-- machine that is behind), a board's time would stand still until the clock has caught up, and every cooldown with
-- it. So it goes on at half speed meanwhile: an hour too far is made good in two, and nothing is ever out of order.

-- Up to where the clock's progress is in the board's time; behind last_at while the clock is.
ALTER TABLE boards ADD COLUMN clock_at timestamptz NOT NULL DEFAULT '-infinity';
UPDATE boards SET clock_at = last_at;

DROP FUNCTION submit_scores(text, text[], text[], text[]);

-- Appends a batch of submissions to one board's ledger: one round trip, one transaction.
--
-- The first statement locks the board's row, so batches of one board are serial, seq has no gaps and is in commit
-- order. A volatile PL/pgSQL function takes a new snapshot for each statement, so the second one sees everything
-- that was committed while the lock was awaited; a single statement for both would read stale totals.
--
-- All submissions of a batch get the same time. The batch must not hold one (user, key) pair twice, nor move a
-- total beyond +-(2^53-1) unless it is a batch of one: then a constraint fails the whole batch, nothing is
-- recorded, and the caller repeats the submissions one by one. A batch of one always gives an outcome.
--
-- Outcomes: recorded, replayed, idempotency_mismatch, unknown_action, action_disabled, cooldown, daily_cap, invalid.
-- No row at all: the board does not exist.
CREATE FUNCTION submit_scores(p_board text, p_users text[], p_actions text[], p_keys text[])
RETURNS TABLE (
    ord           integer,      -- 1-based place in the batch
    outcome       text,
    epoch         text,
    seq           bigint,       -- recorded and replayed only, as are the next three
    points        bigint,
    score         bigint,
    at            timestamptz,
    retry_after_s double precision, -- cooldown and daily_cap only, as are the last two
    quota         integer,      -- uses that the limit allows
    window_s      integer,      -- in so many seconds
    previous_at   timestamptz   -- time of the board's event before this batch's first; null when there is none
)
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
    v_clock     timestamptz;
    v_step      interval;
    v_at        timestamptz;
    v_today     timestamptz;
    v_tomorrow  timestamptz;
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_clock := date_trunc('milliseconds', clock_timestamp());
    v_at := v_clock;
    IF v_clock < v_board.last_at THEN
        IF v_clock < v_board.clock_at THEN -- set back: time counts from here, whatever becomes of this batch
            UPDATE boards b SET clock_at = v_clock WHERE b.board_id = p_board;
            v_board.clock_at := v_clock;
        END IF;
        v_step := date_trunc('milliseconds', (v_clock - v_board.clock_at) / 2);
        v_at := v_board.last_at + v_step;
        v_clock := v_board.clock_at + 2 * v_step; -- a millisecond left over is counted the next time
    END IF;
    v_today := date_trunc('day', v_at AT TIME ZONE v_board.timezone) AT TIME ZONE v_board.timezone;
    v_tomorrow := (date_trunc('day', v_at AT TIME ZONE v_board.timezone) + interval '1 day')
                  AT TIME ZONE v_board.timezone;

    RETURN QUERY
    WITH asked AS (
        SELECT a.ord::integer AS ord, a.user_id COLLATE "C" AS user_id, a.action_id COLLATE "C" AS action_id,
               a.key COLLATE "C" AS key
        FROM unnest(p_users, p_actions, p_keys) WITH ORDINALITY AS a (user_id, action_id, key, ord)
    ),
    judged AS (
        SELECT asked.ord, asked.user_id, asked.action_id, asked.key,
               action.points, action.cooldown_seconds, action.daily_cap,
               action.cooldown_seconds > 0 OR action.daily_cap IS NOT NULL AS limited,
               prior.seq AS prior_seq, prior.points AS prior_points,
               prior.score_after AS prior_score, prior.at AS prior_at,
               total.score AS score_before,
               CASE
                   WHEN prior.board_id = p_board AND prior.action_id = asked.action_id THEN 'replayed'
                   WHEN prior.seq IS NOT NULL THEN 'idempotency_mismatch'
                   WHEN action.action_id IS NULL THEN 'unknown_action'
                   WHEN NOT action.enabled THEN 'action_disabled'
                   WHEN cardinality(p_users) = 1
                        AND abs(coalesce(total.score, 0) + action.points) > 9007199254740991 THEN 'invalid'
                   ELSE 'recorded'
               END AS verdict
        FROM asked
        -- One look each. As plain joins they read a whole board once there are no statistics, as after a restore.
        LEFT JOIN LATERAL (
            SELECT l.board_id, l.seq, l.action_id, l.points, l.score_after, l.at
            FROM ledger l
            WHERE l.user_id = asked.user_id AND l.idempotency_key = asked.key
            LIMIT 1
        ) prior ON true
        LEFT JOIN LATERAL (
            SELECT a.action_id, a.points, a.cooldown_seconds, a.daily_cap, a.enabled
            FROM actions a
            WHERE a.board_id = p_board AND a.action_id = asked.action_id
            LIMIT 1
        ) action ON true
        LEFT JOIN LATERAL (
            SELECT t.score
            FROM totals t
            WHERE t.board_id = p_board AND t.time_window = 'all' AND t.period = '-infinity'
              AND t.user_id = asked.user_id
            LIMIT 1
        ) total ON true
    ),
    -- Cooldown and cap look at what is in the ledger and at the place among this batch's own uses. Equal times
    -- make that exact: of several uses at one instant a cooldown admits the first, a cap the first that fit.
    counted AS (
        SELECT j.*, used.last_at, used.today,
               count(*) FILTER (WHERE j.verdict = 'recorded')
                   OVER (PARTITION BY j.user_id, j.action_id ORDER BY j.ord) AS nth_use
        FROM judged j
        CROSS JOIN LATERAL (
            SELECT max(l.at) AS last_at, count(*) FILTER (WHERE l.at >= v_today) AS today
            FROM ledger l
            WHERE j.limited AND j.verdict = 'recorded' -- else the ledger is not looked at
              AND l.board_id = p_board AND l.user_id = j.user_id AND l.action_id = j.action_id
              AND l.at >= least(v_today, v_at - make_interval(secs => j.cooldown_seconds))
        ) used
    ),
    ruled AS (
        SELECT c.*,
               -- When the cooldown began: at the last use in the ledger, or at the one just before in this batch.
               CASE WHEN c.last_at + make_interval(secs => c.cooldown_seconds) > v_at
                    THEN c.last_at ELSE v_at END AS used_at,
               CASE
                   WHEN c.verdict <> 'recorded' OR NOT c.limited THEN c.verdict
                   WHEN c.cooldown_seconds > 0
                        AND (c.nth_use > 1 OR c.last_at + make_interval(secs => c.cooldown_seconds) > v_at)
                       THEN 'cooldown'
                   WHEN c.today + c.nth_use > c.daily_cap THEN 'daily_cap'
                   ELSE c.verdict
               END AS ruling
        FROM counted c
    ),
    -- Running numbers beside every row rather than a join of the recorded ones back to all: with hash and merge
    -- joins off that would compare each row with each.
    numbered AS (
        SELECT r.*,
               v_board.seq + count(*) FILTER (WHERE r.ruling = 'recorded') OVER (ORDER BY r.ord) AS seq,
               (coalesce(r.score_before, 0)
                   + sum(r.points) FILTER (WHERE r.ruling = 'recorded') OVER so_far)::bigint AS score_after,
               count(*) FILTER (WHERE r.ruling = 'recorded') OVER so_far AS nth_of_user,
               count(*) FILTER (WHERE r.ruling = 'recorded') OVER (PARTITION BY r.user_id) AS of_user
        FROM ruled r
        WINDOW so_far AS (PARTITION BY r.user_id ORDER BY r.ord)
    ),
    appended AS (
        INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, idempotency_key, at)
        SELECT p_board, n.seq, n.user_id, n.action_id, n.points, n.score_after, n.key, v_at
        FROM numbered n
        WHERE n.ruling = 'recorded'
        ORDER BY n.seq
    ),
    totalled AS (
        INSERT INTO totals AS t (board_id, time_window, period, user_id, score, reached_seq, submissions,
                                 first_at, last_at)
        SELECT p_board, 'all', '-infinity', n.user_id, n.score_after, n.seq, n.nth_of_user, v_at, v_at
        FROM numbered n
        WHERE n.ruling = 'recorded' AND n.nth_of_user = n.of_user
        ON CONFLICT (board_id, time_window, period, user_id) DO UPDATE
        SET score = excluded.score, reached_seq = excluded.reached_seq,
            submissions = t.submissions + excluded.submissions, last_at = excluded.last_at
    ),
    advanced AS (
        UPDATE boards b
        SET seq = b.seq + gained.events, players = b.players + gained.players, last_at = v_at, clock_at = v_clock
        FROM (
            SELECT count(*) AS events,
                   count(*) FILTER (WHERE n.score_before IS NULL AND n.nth_of_user = 1) AS players
            FROM numbered n
            WHERE n.ruling = 'recorded'
        ) gained
        WHERE b.board_id = p_board AND gained.events > 0
    )
    SELECT n.ord, n.ruling, v_board.epoch,
           CASE n.ruling WHEN 'recorded' THEN n.seq WHEN 'replayed' THEN n.prior_seq END,
           CASE n.ruling WHEN 'recorded' THEN n.points WHEN 'replayed' THEN n.prior_points END,
           CASE n.ruling WHEN 'recorded' THEN n.score_after WHEN 'replayed' THEN n.prior_score END,
           CASE n.ruling WHEN 'recorded' THEN v_at WHEN 'replayed' THEN n.prior_at END,
           extract(epoch FROM CASE n.ruling
               WHEN 'cooldown' THEN n.used_at + make_interval(secs => n.cooldown_seconds) - v_at
               WHEN 'daily_cap' THEN v_tomorrow - v_at
           END)::double precision,
           CASE n.ruling WHEN 'cooldown' THEN 1 WHEN 'daily_cap' THEN n.daily_cap END,
           CASE n.ruling WHEN 'cooldown' THEN n.cooldown_seconds WHEN 'daily_cap' THEN 86400 END,
           nullif(v_board.last_at, '-infinity')
    FROM numbered n
    ORDER BY n.ord;
END;
$$;
