-- Who is known or has scores, by the text that is compared where case and accents make no difference.
--
-- A display name must not be another user's id. Nothing else asks this of all users at once, so the hot path writes here
-- only at a user's first score on a board, by a trigger; a submission of somebody who plays already pays nothing.

CREATE TABLE players (
    user_id  text COLLATE "C" NOT NULL,
    -- Where the user has scores; empty for being known beyond scores.
    board_id text COLLATE "C" NOT NULL,
    -- The id as it is compared. Null until a server has folded it, which PostgreSQL can do for ASCII only.
    folded   text COLLATE "C",
    PRIMARY KEY (user_id, board_id)
);

-- The users whose ids look like a name, and those whose ids are yet to be folded.
CREATE INDEX players_folded ON players (folded);

CREATE FUNCTION fold_ascii(p_text text) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN CASE WHEN octet_length(p_text) = char_length(p_text) THEN lower(p_text COLLATE "C") END;

CREATE FUNCTION note_player() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO players (user_id, board_id, folded)
    VALUES (NEW.user_id, NEW.board_id, fold_ascii(NEW.user_id))
    ON CONFLICT (user_id, board_id) DO NOTHING;
    RETURN NULL;
END;
$$;

CREATE FUNCTION forget_player() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM players p WHERE p.user_id = OLD.user_id AND p.board_id = OLD.board_id;
    RETURN NULL;
END;
$$;

CREATE FUNCTION note_known() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO players (user_id, board_id, folded)
    VALUES (NEW.user_id, '', fold_ascii(NEW.user_id))
    ON CONFLICT (user_id, board_id) DO NOTHING;
    RETURN NULL;
END;
$$;

CREATE FUNCTION forget_known() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM players p WHERE p.user_id = OLD.user_id AND p.board_id = '';
    RETURN NULL;
END;
$$;

INSERT INTO players (user_id, board_id, folded)
SELECT t.user_id, t.board_id, fold_ascii(t.user_id)
FROM totals t
WHERE t.time_window = 'all'
  AND NOT (t.hidden AND EXISTS (
      SELECT FROM ledger l WHERE l.board_id = t.board_id AND l.user_id = t.user_id AND l.kind = 'erase'))
UNION ALL
SELECT u.user_id, '', fold_ascii(u.user_id)
FROM users u;

-- A total that exists is updated without its user's id, and fires none of them.
CREATE TRIGGER totals_note_player AFTER INSERT ON totals
FOR EACH ROW WHEN (NEW.time_window = 'all') EXECUTE FUNCTION note_player();

CREATE TRIGGER totals_forget_player AFTER UPDATE OF user_id ON totals
FOR EACH ROW WHEN (OLD.time_window = 'all' AND OLD.user_id <> NEW.user_id) EXECUTE FUNCTION forget_player();

CREATE TRIGGER users_note_known AFTER INSERT ON users
FOR EACH ROW EXECUTE FUNCTION note_known();

CREATE TRIGGER users_forget_known AFTER DELETE ON users
FOR EACH ROW EXECUTE FUNCTION forget_known();
