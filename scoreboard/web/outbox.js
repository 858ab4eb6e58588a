/*
 * Submissions on their way: sent one after the other, each repeated with its key
 * until it is known whether it counted. One that is not known to have counted
 * survives a reload of its tab.
 */

import { tryOnce } from './delivery.js';
import { newKey } from './tokens.js';
import { backoff, createNap } from './waiting.js';

const WAITING_MAX = 20;
const GIVE_UP_MS = 5 * 60 * 1000;
const RETRY_FIRST_MS = 400;
const RETRY_MAX_MS = 5000;
const STORAGE_KEY = 'scoreboard.outbox';

/**
 * onChange(item) is called when an item's `is` changes: pending, counted (with `receipt`), refused or unknown (with
 * `message`). add() returns false when too many wait already.
 */
export function createOutbox(tokens, onChange) {
  const items = [];
  const nap = createNap();
  let isSending = false;

  function add(userId, board, { actionId, points }) {
    if (items.filter(({ is }) => is === 'pending').length >= WAITING_MAX) return false;
    enter({ key: newKey(), userId, board, actionId, points, isDoubtful: false });
    return true;
  }

  function enter(item) {
    items.push(item);
    expect(item);
  }

  function expect(item) {
    Object.assign(item, { is: 'pending', message: '', isRenewed: false, endsAt: Date.now() + GIVE_UP_MS });
    onChange(item);
    store();
    send();
  }

  async function send() {
    if (isSending) return;
    isSending = true;
    for (let item = nextPending(); item; item = nextPending()) {
      const outcome = await deliver(item);
      Object.assign(item, outcome);
      if (item.is !== 'unknown') items.splice(items.indexOf(item), 1);
      store();
      onChange(item);
    }
    isSending = false;
  }

  function nextPending() {
    return items.find(({ is }) => is === 'pending');
  }

  async function deliver(item) {
    for (let failures = 0; ; failures += 1) {
      const outcome = Date.now() < item.endsAt ? await tryOnce(item, tokens) : giveUp(item);
      if (outcome.is !== 'later') return outcome;
      await nap.for(Math.max(outcome.afterMs, backoff(failures, RETRY_FIRST_MS, RETRY_MAX_MS)));
    }
  }

  function giveUp({ isDoubtful }) {
    const message = `The server could not be reached for ${GIVE_UP_MS / 60000} minutes.`;
    return { is: isDoubtful ? 'unknown' : 'refused', message };
  }

  /** What is not known to have counted; a reload may have cut off its answer. */
  function store() {
    const kept = items.map(({ key, userId, board, actionId, points }) => ({ key, userId, board, actionId, points }));
    writeStorage(kept);
  }

  return {
    add,
    /** Goes on with what an earlier load of this page left. */
    restore() {
      for (const item of readStorage()) enter({ ...item, isDoubtful: true, isRestored: true });
    },
    /** Tries one again of which it is not known whether it counted, with its key. */
    again: expect,
    /** Forgets one of which it is not known. */
    drop(item) {
      if (items.includes(item)) items.splice(items.indexOf(item), 1);
      store();
    },
    /** The server is back: what waits is tried now. */
    wake: nap.wake,
  };
}

/* Storage throws where the browser's settings forbid it; then nothing survives a reload. */
function readStorage() {
  try {
    return JSON.parse(sessionStorage.getItem(STORAGE_KEY)) ?? [];
  } catch {
    return [];
  }
}

function writeStorage(items) {
  try {
    sessionStorage.setItem(STORAGE_KEY, JSON.stringify(items));
  } catch {
    // Nothing depends on it but reloads.
  }
}
