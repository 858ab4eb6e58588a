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
    window_s      integer       -- in so many seconds
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
    v_at        timestamptz;
    v_today     timestamptz;
    v_tomorrow  timestamptz;
BEGIN
    SELECT * INTO v_board FROM boards b WHERE b.board_id = p_board FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_at := greatest(date_trunc('milliseconds', clock_timestamp()), v_board.last_at);
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
        LEFT JOIN ledger prior ON prior.user_id = asked.user_id AND prior.idempotency_key = asked.key
        LEFT JOIN actions action ON action.board_id = p_board AND action.action_id = asked.action_id
        LEFT JOIN totals total ON total.board_id = p_board AND total.time_window = 'all'
                              AND total.period = '-infinity' AND total.user_id = asked.user_id
    ),
    -- Cooldown and cap look at what is in the ledger and at the place among this batch's own uses. Equal times
    -- make that exact: of several uses at one instant a cooldown admits the first, a cap the first that fit.
    limited AS (
        SELECT j.ord,
               row_number() OVER (PARTITION BY j.user_id, j.action_id ORDER BY j.ord) AS nth,
               used.last_at, used.today
        FROM judged j
        CROSS JOIN LATERAL (
            SELECT max(l.at) AS last_at, count(*) FILTER (WHERE l.at >= v_today) AS today
            FROM ledger l
            WHERE l.board_id = p_board AND l.user_id = j.user_id AND l.action_id = j.action_id
              AND l.at >= least(v_today, v_at - make_interval(secs => j.cooldown_seconds))
        ) used
        WHERE j.verdict = 'recorded' AND (j.cooldown_seconds > 0 OR j.daily_cap IS NOT NULL)
    ),
    ruled AS (
        SELECT j.*,
               -- When the cooldown began: at the last use in the ledger, or at the one just before in this batch.
               CASE WHEN limited.last_at + make_interval(secs => j.cooldown_seconds) > v_at
                    THEN limited.last_at ELSE v_at END AS used_at,
               CASE
                   WHEN limited.ord IS NULL THEN j.verdict
                   WHEN j.cooldown_seconds > 0
                        AND (limited.nth > 1 OR limited.last_at + make_interval(secs => j.cooldown_seconds) > v_at)
                       THEN 'cooldown'
                   WHEN limited.today + limited.nth > j.daily_cap THEN 'daily_cap'
                   ELSE j.verdict
               END AS ruling
        FROM judged j
        LEFT JOIN limited ON limited.ord = j.ord
    ),
    fresh AS (
        SELECT r.ord, r.user_id, r.action_id, r.key, r.points, r.score_before,
               v_board.seq + row_number() OVER (ORDER BY r.ord) AS seq,
               (coalesce(r.score_before, 0)
                   + sum(r.points) OVER (PARTITION BY r.user_id ORDER BY r.ord))::bigint AS score_after,
               row_number() OVER (PARTITION BY r.user_id ORDER BY r.ord) AS nth_of_user,
               row_number() OVER (PARTITION BY r.user_id ORDER BY r.ord DESC) AS nth_from_last
        FROM ruled r
        WHERE r.ruling = 'recorded'
    ),
    appended AS (
        INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, idempotency_key, at)
        SELECT p_board, f.seq, f.user_id, f.action_id, f.points, f.score_after, f.key, v_at
        FROM fresh f
        ORDER BY f.seq
    ),
    totalled AS (
        INSERT INTO totals AS t (board_id, time_window, period, user_id, score, reached_seq, submissions,
                                 first_at, last_at)
        SELECT p_board, 'all', '-infinity', f.user_id, f.score_after, f.seq, f.nth_of_user, v_at, v_at
        FROM fresh f
        WHERE f.nth_from_last = 1
        ON CONFLICT (board_id, time_window, period, user_id) DO UPDATE
        SET score = excluded.score, reached_seq = excluded.reached_seq,
            submissions = t.submissions + excluded.submissions, last_at = excluded.last_at
    ),
    advanced AS (
        UPDATE boards b
        SET seq = b.seq + gained.events, players = b.players + gained.players, last_at = v_at
        FROM (
            SELECT count(*) AS events,
                   count(*) FILTER (WHERE f.score_before IS NULL AND f.nth_of_user = 1) AS players
            FROM fresh f
        ) gained
        WHERE b.board_id = p_board AND gained.events > 0
    )
    SELECT r.ord, r.ruling, v_board.epoch,
           CASE r.ruling WHEN 'recorded' THEN f.seq WHEN 'replayed' THEN r.prior_seq END,
           CASE r.ruling WHEN 'recorded' THEN f.points WHEN 'replayed' THEN r.prior_points END,
           CASE r.ruling WHEN 'recorded' THEN f.score_after WHEN 'replayed' THEN r.prior_score END,
           CASE r.ruling WHEN 'recorded' THEN v_at WHEN 'replayed' THEN r.prior_at END,
           extract(epoch FROM CASE r.ruling
               WHEN 'cooldown' THEN r.used_at + make_interval(secs => r.cooldown_seconds) - v_at
               WHEN 'daily_cap' THEN v_tomorrow - v_at
           END)::double precision,
           CASE r.ruling WHEN 'cooldown' THEN 1 WHEN 'daily_cap' THEN r.daily_cap END,
           CASE r.ruling WHEN 'cooldown' THEN r.cooldown_seconds WHEN 'daily_cap' THEN 86400 END
    FROM ruled r
    LEFT JOIN fresh f ON f.ord = r.ord
    ORDER BY r.ord;
END;
$$;
