-- Boards, their actions, the ledger and the totals kept beside it.
--
-- Identifiers use the byte order of COLLATE "C" everywhere, so that ORDER BY user_id and the order of
-- Redis sorted-set members are the same order.

CREATE TABLE boards (
    board_id    text        COLLATE "C" PRIMARY KEY CHECK (board_id ~ '^[A-Za-z0-9._-]{1,64}$'),
    -- Names one history of the board; it changes only when that history was replaced.
    epoch       text        NOT NULL DEFAULT left(replace(gen_random_uuid()::text, '-', ''), 8)
                            CHECK (epoch ~ '^[a-z0-9]{4,32}$'),
    -- Position of the last ledger event. Advanced only by submit_scores, under this row's lock.
    seq         bigint      NOT NULL DEFAULT 0 CHECK (seq >= 0),
    -- Time of the last ledger event: the next one is never earlier.
    last_at     timestamptz NOT NULL DEFAULT '-infinity',
    -- Users with a total in window 'all', so that no page has to count them.
    players     bigint      NOT NULL DEFAULT 0 CHECK (players >= 0 AND players <= seq),
    title       text        NOT NULL DEFAULT '' CHECK (char_length(title) <= 200),
    windows     text[]      NOT NULL DEFAULT '{all}'
                            CHECK (windows <@ '{all,day,week,month}' AND windows @> '{all}'),
    ties        text        NOT NULL DEFAULT 'shared' CHECK (ties IN ('shared', 'dense', 'first')),
    timezone    text        NOT NULL DEFAULT 'UTC',
    created_at  timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp())
) WITH (fillfactor = 50); -- one row is updated with every batch: leave room for HOT updates

INSERT INTO boards (board_id, title) VALUES ('global', 'Global');

CREATE TABLE actions (
    board_id         text    COLLATE "C" NOT NULL REFERENCES boards,
    action_id        text    COLLATE "C" NOT NULL CHECK (action_id ~ '^[A-Za-z0-9._-]{1,64}$'),
    points           bigint  NOT NULL CHECK (points BETWEEN -9007199254740991 AND 9007199254740991),
    cooldown_seconds integer NOT NULL DEFAULT 0 CHECK (cooldown_seconds BETWEEN 0 AND 31536000),
    daily_cap        integer CHECK (daily_cap BETWEEN 1 AND 1000000),
    enabled          boolean NOT NULL DEFAULT true,
    PRIMARY KEY (board_id, action_id)
);

-- Only users about whom something is known beyond their scores; a submission never writes here.
CREATE TABLE users (
    user_id      text COLLATE "C" PRIMARY KEY CHECK (char_length(user_id) BETWEEN 1 AND 64),
    display_name text CHECK (char_length(display_name) BETWEEN 1 AND 100),
    hidden       boolean NOT NULL DEFAULT false
);

-- Append-only: the source of truth. No foreign keys, because submit_scores holds the board's row lock and has
-- just read the action; a check per event would be paid on the hot path for what cannot happen.
CREATE TABLE ledger (
    board_id        text        COLLATE "C" NOT NULL,
    seq             bigint      NOT NULL CHECK (seq >= 1),
    kind            text        NOT NULL DEFAULT 'score'
                                CHECK (kind IN ('score', 'hide', 'unhide', 'name', 'erase')),
    user_id         text        COLLATE "C" NOT NULL CHECK (char_length(user_id) BETWEEN 1 AND 64),
    action_id       text        COLLATE "C",
    points          bigint      NOT NULL CHECK (points BETWEEN -9007199254740991 AND 9007199254740991),
    score_after     bigint      NOT NULL CHECK (score_after BETWEEN -9007199254740991 AND 9007199254740991),
    idempotency_key text        COLLATE "C" CHECK (char_length(idempotency_key) BETWEEN 1 AND 255),
    at              timestamptz NOT NULL,
    PRIMARY KEY (board_id, seq),
    CHECK ((kind = 'score') = (action_id IS NOT NULL))
);

-- One effect per key. Keys belong to the user, so the index spans boards.
CREATE UNIQUE INDEX ledger_idempotency ON ledger (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- A user's history, newest first, and the look-back of cooldowns and daily caps. Within a board `at` never
-- falls as `seq` rises, so (at, seq) is the order of seq.
CREATE INDEX ledger_history ON ledger (board_id, user_id, at, seq);

CREATE TABLE totals (
    board_id    text        COLLATE "C" NOT NULL,
    time_window text        NOT NULL CHECK (time_window IN ('all', 'day', 'week', 'month')),
    -- First day of the window's period in the board's time zone; -infinity for window 'all'.
    period      date        NOT NULL CHECK ((time_window = 'all') = (period = '-infinity')),
    user_id     text        COLLATE "C" NOT NULL,
    score       bigint      NOT NULL CHECK (score BETWEEN -9007199254740991 AND 9007199254740991),
    -- seq of the event that made the score what it is.
    reached_seq bigint      NOT NULL CHECK (reached_seq >= 1),
    submissions bigint      NOT NULL CHECK (submissions BETWEEN 1 AND reached_seq),
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL CHECK (last_at >= first_at),
    PRIMARY KEY (board_id, time_window, period, user_id)
) WITH (fillfactor = 80);

-- The order of a board: score high to low, then user id by bytes. Negated as in Redis, so that one row
-- comparison pages through it. Serves pages and ranks while Redis cannot.
CREATE INDEX totals_order ON totals (board_id, time_window, period, (-score), user_id);
