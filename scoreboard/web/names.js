/*
 * Display names of users. Frames that name a user say them as far as they know;
 * others are asked for, a few at a time.
 */

const ASK_EVERY_MS = 4000;
/* Everybody who sees a board hears of a score at the same moment, and need not ask at the same one. */
const SPREAD_MS = 800;
const ASKED_MAX = 8;
const KNOWN_MAX = 1000;

/** onChange is called when names came that were asked for. */
export function createNames(view, onChange) {
  /* By user: the display name, or null for a user known to have none. */
  const known = new Map();
  const wanted = new Set();
  let timer = null;
  let askedAt = -ASK_EVERY_MS;
  /* An answer to what was asked before a reset may name somebody who was erased. */
  let turn = 0;

  function learn(userId, name) {
    if (known.size >= KNOWN_MAX && !known.has(userId)) known.delete(known.keys().next().value);
    known.set(userId, name);
    wanted.delete(userId);
  }

  function askSoon() {
    const pause = Math.max(0, askedAt + ASK_EVERY_MS - performance.now());
    timer ??= setTimeout(ask, pause + Math.random() * SPREAD_MS);
  }

  async function ask() {
    const asked = [...wanted].slice(-ASKED_MAX);
    wanted.clear();
    if (asked.length > 0) await learnAll(asked);
    timer = null;
    if (wanted.size > 0) askSoon();
  }

  async function learnAll(userIds) {
    askedAt = performance.now();
    const asked = turn;
    const entries = await readUsers(userIds, view);
    if (asked !== turn) return;
    for (const { userId, displayName } of entries ?? []) learn(userId, displayName);
    if (entries !== null) onChange();
  }

  return {
    /** Takes a frame of the stream. */
    take(type, data) {
      if (type === 'leaderboard') for (const entry of data.top10) learn(entry.userId, entry.displayName);
      else if (data.userId !== undefined && data.displayName !== undefined) learn(data.userId, data.displayName);
    },
    /** What to call a user: the id as long as no name is known. */
    of(userId) {
      if (!known.has(userId)) {
        wanted.add(userId);
        askSoon();
      }
      return known.get(userId) ?? userId;
    },
    /** After a reset nothing that was known needs to hold: somebody may have been erased. */
    forget() {
      turn += 1;
      known.clear();
      wanted.clear();
    },
  };
}

/** Returns the entries of some users on a board, or null when there was no usable answer. */
export async function readUsers(userIds, view) {
  const query = new URLSearchParams({ ...view, ids: userIds.map(encodeId).join(',') });
  try {
    const answer = await fetch(`/api/leaderboard/users?${query}`, { cache: 'no-store' });
    return answer.ok ? (await answer.json()).leaderboard : null;
  } catch {
    return null;
  }
}

/** Entries of the list are decoded once more, so that an id may have a comma. */
function encodeId(userId) {
  return userId.replace(/[%,]/g, encodeURIComponent);
}
