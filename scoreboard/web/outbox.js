/*
 * Submissions on their way: sent one after the other, each repeated with its key
 * until it is known whether it counted. One that is not known to have counted is
 * kept by the browser, so that it survives its tab: another tab or the next visit
 * takes it up.
 *
 * Whose a submission is, is said by a lock under its key, which goes with the tab
 * that holds it. Where a browser has no locks (plain http on a network), two tabs
 * may send the same one, which its key makes harmless.
 */

import { tryOnce } from './delivery.js';
import { recall, recallKeys, remember } from './memory.js';
import { newKey } from './tokens.js';
import { backoff, createNap } from './waiting.js';

const WAITING_MAX = 20;
const UNKNOWN_MAX = 20;
const GIVE_UP_MS = 5 * 60 * 1000;
const RETRY_FIRST_MS = 400;
const RETRY_MAX_MS = 5000;
const PREFIX = 'scoreboard.outbox.';

/**
 * onChange(item) is called when an item's `is` changes: pending, counted (with `receipt`), refused or unknown (with
 * `message`). add() returns false when too many wait already.
 */
export function createOutbox(tokens, onChange) {
  const items = [];
  const nap = createNap();
  let isSending = false;

  function add(userId, board, { actionId, points }) {
    const kept = listKept().filter(({ is }) => is === 'pending');
    const own = items.filter(({ is }) => is === 'pending');
    if (Math.max(kept.length, own.length) >= WAITING_MAX) return false;
    const item = { key: newKey(), userId, board, actionId, points, isDoubtful: false };
    const settled = new Promise((resolve) => { item.release = resolve; });
    items.push(item);
    expect(item);
    // Kept no sooner than held: another tab that hears of it would take it up.
    hold(item.key, () => {
      item.isHeld = true;
      if (items.includes(item)) keep(item);
      return settled;
    });
    return true;
  }

  function expect(item) {
    item.endsAt = Date.now() + GIVE_UP_MS;
    enter(item);
  }

  function enter(item) {
    Object.assign(item, { is: 'pending', message: '', isRenewed: false });
    onChange(item);
    if (item.isHeld) keep(item);
    send();
  }

  async function send() {
    if (isSending) return;
    isSending = true;
    for (let item = nextPending(); item; item = nextPending()) {
      const outcome = await deliver(item);
      Object.assign(item, outcome);
      if (item.is !== 'unknown') drop(item);
      else if (item.isHeld) keep(item);
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
    const message = `It could not be sent within ${GIVE_UP_MS / 60000} minutes.`;
    return { is: isDoubtful ? 'unknown' : 'refused', message };
  }

  /** Takes up what a tab has left, once that tab is gone; what has been settled by then is there no more. */
  function takeUp(key) {
    if (items.some((item) => item.key === key)) return;
    hold(key, () => {
      const left = readKept(PREFIX + key);
      if (left === null || items.some((item) => item.key === key)) return null;
      return new Promise((resolve) => {
        // Its answer may have been cut off.
        const item = { ...left, isDoubtful: true, isRestored: true, isHeld: true, release: resolve };
        items.push(item);
        enter(item);
      });
    });
  }

  function drop(item) {
    if (items.includes(item)) items.splice(items.indexOf(item), 1);
    remember(PREFIX + item.key, null);
    item.release();
  }

  return {
    add,
    /** Goes on with what earlier visits and closed tabs have left, from now on. */
    restore() {
      for (const { key } of listKept()) takeUp(key);
      if (!navigator.locks) return;
      window.addEventListener('storage', ({ key, newValue }) => {
        if (key?.startsWith(PREFIX) && newValue !== null) takeUp(key.slice(PREFIX.length));
      });
    },
    /** Tries one again of which it is not known whether it counted, with its key. */
    again: expect,
    /** Forgets one of which it is not known. */
    drop,
    /** The server is back: what waits is tried now. */
    wake: nap.wake,
  };
}

/** Calls work() while no other tab has the key, and keeps others from it until the promise that it returns is kept. */
function hold(key, work) {
  // A lock that is not to be had, as where storage is forbidden, is no reason not to send.
  if (navigator.locks) navigator.locks.request(PREFIX + key, work).catch(work);
  else work();
}

function keep({ key, userId, board, actionId, points, is, endsAt }) {
  remember(PREFIX + key, JSON.stringify({ key, userId, board, actionId, points, is, endsAt }));
  const unknown = listKept().filter((item) => item.is === 'unknown');
  for (const { key: oldest } of unknown.slice(0, -UNKNOWN_MAX)) remember(PREFIX + oldest, null);
}

/** What the browser keeps, the oldest first. */
function listKept() {
  return recallKeys(PREFIX).map(readKept).filter((item) => item !== null).sort((a, b) => a.endsAt - b.endsAt);
}

function readKept(name) {
  try {
    const item = JSON.parse(recall(name));
    return Number.isFinite(item?.endsAt) && name === PREFIX + item.key ? item : null;
  } catch {
    return null;
  }
}
