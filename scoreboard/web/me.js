/*
 * One followed player. Their score comes with the stream, but their rank also
 * changes when others score, so stats are read again while frames arrive: once
 * per REFRESH_MS at most, at the end of the interval, so that the last change of
 * a burst is seen too.
 */

import { readUsers } from './names.js';

const REFRESH_MS = 2000;
const ID_LENGTH_MAX = 64;
const NO_SCORE = 'no score yet';
const STORAGE_KEY = 'scoreboard.me';

/** Follows one player at a time; onChange is called whenever `entry` or `note` differ. */
export function createMe(view, onChange) {
  /* `seq` is that of the player's own last score seen on the stream: an answer from before it is too old. */
  const me = { userId: null, entry: null, note: '', seq: 0 };
  let timer = null;

  function follow(userId) {
    if (userId === me.userId) return;
    Object.assign(me, { userId, seq: 0, note: '' });
    me.entry = userId === null ? null : { userId, displayName: null, rank: null, score: null };
    onChange();
    if (userId !== null) load();
  }

  async function load() {
    const { userId, seq } = me;
    if (userId === null) return;
    const found = await readPlace(userId, view, me.entry.score !== null);
    // The player may have been changed, or may have scored, while the answer was under way.
    if (found === null || userId !== me.userId || seq !== me.seq) return;
    if (found.score === null) showUnscored();
    else if (found.seq >= me.seq) show(found);
    onChange();
  }

  function show({ score, rank, displayName, percentile }) {
    me.entry = { userId: me.userId, displayName: displayName ?? me.entry.displayName, score, rank };
    if (percentile !== undefined) me.note = describe(percentile);
    else if (me.note === NO_SCORE) me.note = '';
  }

  function showUnscored() {
    me.entry = { ...me.entry, score: null, rank: null };
    me.note = NO_SCORE;
  }

  function refreshSoon() {
    // A first score comes with the stream, so a player without one need not be asked for again.
    if (me.userId === null || timer !== null || me.note === NO_SCORE) return;
    timer = setTimeout(() => {
      timer = null;
      load();
    }, REFRESH_MS);
  }

  return {
    get userId() { return me.userId; },
    get entry() { return me.entry; },
    get note() { return me.note; },
    follow,
    /** Asks again: the player was renamed, hidden or is shown again, or something may have been missed. */
    reload: load,
    /** Takes a `leaderboard` frame, which names the player only if they are in the top ten. */
    takeTop(frame) {
      const mine = frame.top10.find((entry) => entry.userId === me.userId);
      if (mine && frame.seq >= me.seq) show(mine);
      refreshSoon();
    },
    /** Takes a `score-updated` frame of any player. */
    takeUpdate(update) {
      if (update.userId === me.userId && update.seq > me.seq) {
        me.seq = update.seq;
        if (update.score === null) showUnscored();
        else show({ score: update.score, rank: update.rank ?? me.entry.rank });
      }
      refreshSoon();
    },
    /** After a reset positions may start again from a lower number. */
    forgetPosition() {
      me.seq = 0;
      if (me.note === NO_SCORE) me.note = '';
    },
  };
}

/**
 * Returns the player's stats, {score: null} for one who is not ranked, or null when there was no usable answer; the
 * next frame asks again. Stats of somebody without a score are an error, so who is not known to have one is looked up
 * where it is none.
 */
async function readPlace(userId, view, isScored) {
  if (!isScored) {
    const users = await readUsers([userId], view);
    if (users === null || users[0].score === null) return users && users[0];
  }
  try {
    const query = new URLSearchParams(view);
    const answer = await fetch(`/api/users/${encodeURIComponent(userId)}/stats?${query}`, { cache: 'no-store' });
    if (answer.status === 404) return { score: null };
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

function describe(percentile) {
  if (!(percentile > 0)) return '';
  return `ahead of ${Math.floor(percentile)}%`;
}

/** Says what is wrong with a user id, or returns an empty string. */
export function userIdProblem(userId) {
  if ([...userId].length > ID_LENGTH_MAX) return `A user id has at most ${ID_LENGTH_MAX} characters.`;
  if (/[\p{Cc}\p{Cs}]/u.test(userId)) return 'A user id has no control characters.';
  return '';
}

/** `?me=` wins over what this browser remembers. */
export function rememberedUserId() {
  const asked = new URLSearchParams(location.search).get('me');
  const userId = asked ?? readStorage();
  return userId && userId.trim() !== '' && userIdProblem(userId) === '' ? userId : null;
}

/** Remembers a choice made on the page, and drops `?me=`, which would win over it on reload. */
export function rememberUserId(userId) {
  writeStorage(userId);
  const address = new URL(location.href);
  if (!address.searchParams.has('me')) return;
  address.searchParams.delete('me');
  history.replaceState(null, '', address);
}

/* Storage throws where the browser's settings forbid it; the page then just does not remember. */
function readStorage() {
  try {
    return localStorage.getItem(STORAGE_KEY);
  } catch {
    return null;
  }
}

function writeStorage(userId) {
  try {
    if (userId === null) localStorage.removeItem(STORAGE_KEY);
    else localStorage.setItem(STORAGE_KEY, userId);
  } catch {
    // Nothing depends on it.
  }
}
