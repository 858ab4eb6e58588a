-- Events of more kinds than scores, windows of time, and boards that count in other ways than by sums.
--
-- An event says what its user's state is after it, in every window of the board: applying is setting, whatever the
-- kind, so that whoever follows the ledger needs no rules of its own.

ALTER TABLE boards
    -- How a total follows from what is submitted: the sum, the best, or the last of it.
    ADD COLUMN operator text   NOT NULL DEFAULT 'sum' CHECK (operator IN ('sum', 'best', 'last')),
    -- No event leaves a total below it.
    ADD COLUMN floor    bigint CHECK (floor BETWEEN -9007199254740991 AND 9007199254740991),
    ADD CHECK (floor IS NULL OR operator = 'sum');

-- A fixed number of points, or bounds within which a trusted server says how many.
ALTER TABLE actions
    ALTER COLUMN points DROP NOT NULL,
    ADD COLUMN points_min bigint CHECK (points_min BETWEEN -9007199254740991 AND 9007199254740991),
    ADD COLUMN points_max bigint CHECK (points_max BETWEEN -9007199254740991 AND 9007199254740991),
    ADD CHECK ((points IS NULL) = (points_min IS NOT NULL) AND (points IS NULL) = (points_max IS NOT NULL)),
    ADD CHECK (points_min <= points_max);

ALTER TABLE ledger
    -- What was submitted, where it is not what the total changed by: a floor, or another operator than sum.
    ADD COLUMN value       bigint CHECK (value BETWEEN -9007199254740991 AND 9007199254740991),
    -- The user's totals in the windows that the board had, in the periods in which the event was.
    ADD COLUMN day_after   bigint,
    ADD COLUMN week_after  bigint,
    ADD COLUMN month_after bigint,
    -- Whether the user is kept out of the ranking after the event.
    ADD COLUMN hidden      boolean NOT NULL DEFAULT false,
    -- The event that this one makes undone.
    ADD COLUMN revokes     bigint,
    -- When the event counts, where that is not when it was: that of the event that it makes undone.
    ADD COLUMN counted_at  timestamptz,
    -- What else an event of its kind says.
    ADD COLUMN detail      jsonb,
    ALTER COLUMN user_id DROP NOT NULL, -- 'settings' concerns everybody
    DROP CONSTRAINT ledger_kind_check,
    DROP CONSTRAINT ledger_check,
    ADD CONSTRAINT ledger_kind_check CHECK (
        CASE kind
            WHEN 'score' THEN user_id IS NOT NULL AND action_id IS NOT NULL AND revokes IS NULL
            WHEN 'revoke' THEN user_id IS NOT NULL AND revokes < seq AND counted_at <= at
            WHEN 'settings' THEN user_id IS NULL AND points = 0
            WHEN 'opening' THEN user_id IS NOT NULL AND revokes IS NULL
            ELSE kind IN ('hide', 'unhide', 'name', 'erase') AND user_id IS NOT NULL AND points = 0
        END
    ) NOT VALID; -- what was there keeps the older rules, which ask for more

-- An event is made undone once.
CREATE UNIQUE INDEX ledger_revoked ON ledger (board_id, revokes) WHERE revokes IS NOT NULL;

-- reached_seq is the event since which the score is what it is: one of 0 points leaves it. So there may be more
-- submissions than its number says.
ALTER TABLE totals
    ADD COLUMN hidden boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT totals_check1,
    ADD CHECK (submissions >= 0) NOT VALID;
UPDATE totals t
SET reached_seq = coalesce(
    (SELECT l.seq FROM ledger l
     WHERE l.board_id = t.board_id AND l.user_id = t.user_id AND l.points <> 0
     ORDER BY l.at DESC, l.seq DESC LIMIT 1),
    (SELECT l.seq FROM ledger l
     WHERE l.board_id = t.board_id AND l.user_id = t.user_id
     ORDER BY l.at, l.seq LIMIT 1))
FROM ledger e
WHERE e.board_id = t.board_id AND e.seq = t.reached_seq AND e.points = 0;

-- As before, of those who are shown. Within a tie of a board whose ties are 'first' its rows are sorted when read.
CREATE INDEX totals_shown ON totals (board_id, time_window, period, (-score), user_id) WHERE NOT hidden;
DROP INDEX totals_order;
ALTER INDEX totals_shown RENAME TO totals_order;

-- The periods of a window in which something happened, with the users who are shown.
CREATE TABLE periods (
    board_id    text        COLLATE "C" NOT NULL,
    time_window text        NOT NULL CHECK (time_window IN ('day', 'week', 'month')),
    period      date        NOT NULL,
    players     bigint      NOT NULL CHECK (players >= 0),
    PRIMARY KEY (board_id, time_window, period)
) WITH (fillfactor = 50); -- those of now are updated with every batch

-- Windows that a board shall have and whose totals are being made from its ledger, up to a seq.
CREATE TABLE fills (
    board_id text   COLLATE "C" PRIMARY KEY REFERENCES boards,
    windows  text[] NOT NULL CHECK (windows <@ '{day,week,month}' AND cardinality(windows) > 0),
    seq      bigint NOT NULL DEFAULT 0 CHECK (seq >= 0)
);

-- The first day of the period of a window that a time is in, in a time zone.
CREATE FUNCTION period_of(p_window text, p_zone text, p_at timestamptz) RETURNS date
LANGUAGE sql STABLE
RETURN date_trunc(p_window, p_at AT TIME ZONE p_zone)::date;

-- When a period begins. Days on which clocks change have 23 or 25 hours. Where they are set back over midnight, the first
-- of the two midnights is it: the hour after it has the new date already, and PostgreSQL takes the second.
CREATE FUNCTION period_start(p_zone text, p_period date) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN (
    SELECT CASE WHEN ((m.at - interval '1 hour') AT TIME ZONE p_zone)::date = p_period
                THEN m.at - interval '1 hour' ELSE m.at END
    FROM (SELECT p_period::timestamp AT TIME ZONE p_zone AS at) m
);

-- When a period is over, and the next one begins.
CREATE FUNCTION period_end(p_window text, p_zone text, p_period date) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN period_start(p_zone, (p_period + ('1 ' || p_window)::interval)::date);

-- The periods of a board's windows at a time, as text for whoever applies events: window, period, end in milliseconds,
-- each with a space between. Null for a board without.
CREATE FUNCTION periods_at(p_windows text[], p_zone text, p_at timestamptz) RETURNS text
LANGUAGE sql STABLE
RETURN (
    SELECT string_agg(
        w.name || ' ' || period_of(w.name, p_zone, p_at) || ' '
        || (extract(epoch FROM period_end(w.name, p_zone, period_of(w.name, p_zone, p_at))) * 1000)::bigint,
        ' ' ORDER BY w.ord
    )
    FROM unnest('{day,week,month}'::text[]) WITH ORDINALITY w (name, ord)
    WHERE w.name = ANY (p_windows)
);

-- The time of a board that takes no events. Finite, because reads calculate with it.
CREATE FUNCTION end_of_time() RETURNS timestamptz
LANGUAGE sql IMMUTABLE
RETURN timestamptz '9999-12-31 00:00:00+00';

-- The time of a board's next event, which is never before the last one's: see 0003. Whoever asks has the board's lock.
-- Refuses for a board at the end of time, which is being imported: see 0009.
CREATE FUNCTION next_time(p_board boards, OUT at timestamptz, OUT clock timestamptz)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_step interval;
BEGIN
    IF p_board.last_at = end_of_time() THEN
        RAISE EXCEPTION 'board ''%'' is being imported', p_board.board_id USING ERRCODE = 'SB001';
    END IF;
    clock := date_trunc('milliseconds', clock_timestamp());
    at := clock;
    IF clock < p_board.last_at THEN
        IF clock < p_board.clock_at THEN -- set back: time counts from here, whatever becomes of this event
            UPDATE boards b SET clock_at = next_time.clock WHERE b.board_id = p_board.board_id;
            p_board.clock_at := clock;
        END IF;
        v_step := date_trunc('milliseconds', (clock - p_board.clock_at) / 2);
        at := p_board.last_at + v_step;
        clock := p_board.clock_at + 2 * v_step; -- a millisecond left over is counted the next time
    END IF;
END;
$$;
