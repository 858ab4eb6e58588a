-- Submissions in windows, with points of their own, below a floor, to boards that count otherwise; of hidden users too.

DROP FUNCTION submit_scores(text, text[], text[], text[]);

-- What becomes of each submission of a batch: see submit_scores. Nothing is written. Inlined where it is called.
-- Whether a total keeps its bounds is asked here on boards that count plain sums; others ask themselves.
CREATE FUNCTION rule_on_scores(
    p_board text, p_is_plain boolean, p_at timestamptz, p_today timestamptz,
    p_users text[], p_actions text[], p_keys text[], p_points bigint[]
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
               a.key COLLATE "C" AS key, a.points
        FROM unnest(p_users, p_actions, p_keys, p_points) WITH ORDINALITY AS a (user_id, action_id, key, points, ord)
    ),
    judged AS (
        SELECT asked.ord, asked.user_id, asked.action_id, asked.key, coalesce(asked.points, action.points) AS value,
               action.points_min, action.points_max, action.cooldown_seconds, action.daily_cap,
               action.cooldown_seconds > 0 OR action.daily_cap IS NOT NULL AS limited,
               prior.seq AS prior_seq, prior.points AS prior_points,
               prior.score_after AS prior_score, prior.at AS prior_at,
               total.score AS before, total.reached_seq AS reached,
               coalesce(total.hidden, person.hidden, false) AS hidden, person.display_name AS name,
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
            SELECT u.hidden, u.display_name
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

CREATE TYPE score_ruling AS (
    ord           integer,      -- 1-based place in the batch
    outcome       text,
    epoch         text,
    seq           bigint,       -- recorded and replayed only, as are the next three
    points        bigint,       -- what the total changed by; of points_out_of_bounds the least allowed
    score         bigint,       -- the total after it; of points_out_of_bounds the most allowed
    at            timestamptz,
    hidden        boolean,      -- recorded only, as is the next: whether the user is kept out of the ranking
    windows       bigint[],     -- the user's totals of the day, week and month after it; null on a board of 'all' only
    name          text,         -- recorded and the user's first: the display name, if there is one
    periods       text,         -- which days, weeks and months these are, as periods_at has it
    retry_after_s double precision, -- cooldown and daily_cap only, as are the last two
    quota         integer,      -- uses that the limit allows
    window_s      integer,      -- in so many seconds
    previous_at   timestamptz   -- time of the board's event before this batch's first; null when there is none
);

-- Appends a batch to a board with windows, a floor or another operator: see submit_scores, which calls it with the
-- board locked.
CREATE FUNCTION submit_scores_in_windows(
    p_board boards, p_at timestamptz, p_clock timestamptz, p_today timestamptz,
    p_users text[], p_actions text[], p_keys text[], p_points bigint[]
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
        FROM rule_on_scores(p_board.board_id, false, p_at, p_today, p_users, p_actions, p_keys, p_points) r
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
-- Most boards have one window and count plain sums. They have a statement of their own, because the one for all
-- boards took them a fifth longer.
CREATE FUNCTION submit_scores(
    p_board text, p_users text[], p_actions text[], p_keys text[], p_points bigint[] DEFAULT NULL
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
            v_board, v_at, v_clock, v_today, p_users, p_actions, p_keys, p_points);
        RETURN;
    END IF;

    RETURN QUERY
    WITH ruled AS (
        SELECT *
        FROM rule_on_scores(p_board, true, v_at, v_today, p_users, p_actions, p_keys, p_points)
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
