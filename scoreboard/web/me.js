/*
 * One followed player. Their score comes with the stream, but their rank also
 * changes when others score, so stats are read again while frames arrive: once
 * per REFRESH_MS at most, at the end of the interval, so that the last change of
 * a burst is seen too.
 */

import { readUsers } from './names.js';
import { forgetScored, hasScored, rememberScored } from './remembered.js';

const REFRESH_MS = 2000;
/* All who see a board are reset at the same moment, and need not ask at the same one. */
const SPREAD_MS = 800;
const NO_SCORE = 'no score yet';
const HIDDEN = 'hidden by the organiser';

/**
 * Follows one player at a time; onChange is called whenever `entry` or `note` differ. tokens.find(userId) gives the
 * token of a player who plays on this page, else null; tokens.forget(userId, token) takes one back that was refused.
 */
export function createMe(view, tokens, onChange) {
  /* `seq` is that of the player's own last score seen on the stream: an answer from before it is too old. */
  const me = { userId: null, entry: null, note: '', seq: 0 };
  let timer = null;
  /* Only the answer to what was asked last counts, and none to what was asked before a reset. */
  let turn = 0;

  function follow(userId) {
    if (userId === me.userId) return;
    turn += 1;
    Object.assign(me, { userId, seq: 0, note: '' });
    me.entry = userId === null ? null : { userId, displayName: null, rank: null, score: null };
    onChange();
    if (userId !== null) load();
  }

  async function load() {
    const { userId, seq } = me;
    if (userId === null) return;
    turn += 1;
    const asked = turn;
    const found = await readPlace(userId, view, me.entry.score !== null, tokens);
    // The player may have been changed, or may have scored, while the answer was under way.
    if (found === null || asked !== turn || seq !== me.seq) return;
    if (found.score === null) showUnscored(found.displayName);
    else if (found.hidden) showHidden(found);
    else if (found.seq >= me.seq) show(found);
    onChange();
  }

  function show({ score, rank, displayName, percentile }) {
    me.entry = { userId: me.userId, displayName: nameNow(displayName), score, rank };
    if (percentile !== undefined) me.note = describe(percentile);
    else if (me.note === NO_SCORE || me.note === HIDDEN) me.note = '';
    rememberOwnScore();
  }

  function showUnscored(displayName) {
    me.entry = { userId: me.userId, displayName: nameNow(displayName), score: null, rank: null };
    me.note = NO_SCORE;
  }

  function showHidden({ score, displayName }) {
    me.entry = { userId: me.userId, displayName: nameNow(displayName), score, rank: null };
    me.note = HIDDEN;
    rememberOwnScore();
  }

  /** Null is the answer that there is no name any more; what says nothing of names changes none. */
  function nameNow(displayName) {
    return displayName === undefined ? me.entry.displayName : displayName;
  }

  function rememberOwnScore() {
    if (tokens.isOwn(me.userId)) rememberScored(me.userId, view);
  }

  function refreshSoon(pause = REFRESH_MS) {
    // A first score comes with the stream, so a player without one need not be asked for again.
    if (me.userId === null || timer !== null || me.note === NO_SCORE) return;
    timer = setTimeout(() => {
      timer = null;
      load();
    }, pause);
  }

  return {
    get userId() { return me.userId; },
    get entry() { return me.entry; },
    get note() { return me.note; },
    follow,
    /** Asks again: the player was renamed, hidden or is shown again, or something may have been missed. */
    reload: load,
    /** A submission of a player on this page counted. The stream says so too, but not of a hidden one. */
    takeReceipt(userId) {
      if (userId !== me.userId) return;
      if (tokens.isOwn(userId)) rememberScored(userId, view);
      if (me.note === NO_SCORE) me.note = '';
      refreshSoon();
    },
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
        if (update.score === null) showUnscored(update.displayName);
        else show({ score: update.score, rank: update.rank ?? me.entry.rank, displayName: update.displayName });
      }
      refreshSoon();
    },
    /** After a reset positions may start again from a lower number, and the name may be that of somebody erased. */
    forget() {
      turn += 1;
      me.seq = 0;
      if (me.userId === null) return;
      if (me.note === NO_SCORE) me.note = '';
      me.entry = { ...me.entry, displayName: null };
      refreshSoon(Math.random() * SPREAD_MS);
    },
  };
}

/**
 * Returns the player's stats, {score: null} for one who is not ranked, or null when there was no usable answer; the
 * next frame asks again. Stats of somebody without a score are an error, so who is not known to have one is looked up
 * where it is none. A hidden player looks as if without a score to all but that player.
 */
async function readPlace(userId, view, isScored, tokens) {
  if (!isScored) {
    const users = await readUsers([userId], view);
    if (users === null) return null;
    if (users[0].score === null && !(tokens.isOwn(userId) && hasScored(userId, view))) return users[0];
  }
  const token = await tokens.find(userId);
  const query = new URLSearchParams(view);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const address = `/api/users/${encodeURIComponent(userId)}/stats?${query}`;
  try {
    const answer = await fetch(address, { cache: 'no-store', headers });
    if (answer.ok) return await answer.json();
    if (answer.status === 401 && token !== null) tokens.forget(userId, token);
    if (answer.status !== 404) return null;
    if (token !== null) forgetScored(userId, view);
    return { score: null, displayName: null };
  } catch {
    return null;
  }
}

function describe(percentile) {
  if (!(percentile > 0)) return '';
  return `ahead of ${Math.floor(percentile)}%`;
}
