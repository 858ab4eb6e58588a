/*
 * Keeps one event stream of a board open, in a page or in a worker.
 *
 * EventSource connects again by itself, after the time that the server asked for
 * and with Last-Event-ID, as long as it gets an answer of 200. It does nothing in
 * three cases, which are handled here: it gives up for good on any other answer,
 * without saying why; it waits for ever for a server that hangs; and it does not
 * hear that the network is back. Then a new one is opened that resumes by
 * ?lastEventId=, since a new one can't send the header.
 */

import { readPage } from './page-read.js';
import { backoff, wait } from './waiting.js';
import { createWatchdog } from './watchdog.js';

const FRAME_TYPES = ['leaderboard', 'score-updated', 'user-updated', 'reset', 'heartbeat'];
const RETRY_FIRST_MS = 1000;
const RETRY_MAX_MS = 15000;
/* A server that ends asks for up to six seconds of patience; one that hangs may have the rest. */
const ATTEMPT_MAX_MS = 12000;
/* A server that is full answers 200 too, and ends the stream at once. */
const SETTLED_AFTER_MS = 250;
/* Several tabs may hear at the same time that the network is back. */
const YOUNG_MS = 500;

/**
 * Follows a view, {board, window}, from lastId on if there is one. Calls onFrame(type, data) for each event and
 * onState({state, reason, resumed, since}) when the state changes: connecting, live, reconnecting, or stopped for good.
 * `resumed` says of live whether nothing was missed, `since` of reconnecting when it was live last. The reason `full`
 * says that the server takes no more streams.
 */
export function openSource(view, { onFrame, onState }, lastId = '') {
  const query = new URLSearchParams(view);
  const watchdog = createWatchdog((heardAt) => {
    tellLost('silence', heardAt);
    connect();
  });
  let source = null;
  let attempt = 0;
  let attemptedAt = 0;
  let failures = 0;
  let isLive = false;
  let isOpen = false;
  let isFull = false;
  let resumes = false;
  let impatience = null;
  let settling = null;

  function connect() {
    drop();
    attemptedAt = performance.now();
    resumes = lastId !== '';
    const asked = new URLSearchParams(query);
    if (resumes) asked.set('lastEventId', lastId);
    source = new EventSource(`/api/leaderboard/stream?${asked}`);
    source.onopen = () => {
      isOpen = true;
      clearTimeout(impatience);
      watchdog.heard();
      settling = setTimeout(tellLive, SETTLED_AFTER_MS);
    };
    source.onerror = lose;
    for (const type of FRAME_TYPES) source.addEventListener(type, take);
    impatience = setTimeout(recover, ATTEMPT_MAX_MS);
  }

  function take(event) {
    watchdog.heard();
    if (event.lastEventId !== '') lastId = event.lastEventId;
    tellLive();
    onFrame(event.type, JSON.parse(event.data));
  }

  function lose() {
    const gaveUp = source.readyState === EventSource.CLOSED;
    watchdog.stop();
    clearTimeout(settling);
    clearTimeout(impatience);
    resumes = lastId !== '';
    if (isLive) tellLost('lost', Date.now());
    else tellFull(isOpen);
    isOpen = false;
    if (gaveUp) recover();
    else impatience = setTimeout(recover, ATTEMPT_MAX_MS);
  }

  /** Asks why there is no stream, and opens another one unless the answer is final. */
  async function recover() {
    drop();
    const mine = attempt;
    tellLost('lost', Date.now());
    const { refusal } = await readPage(view, 1);
    if (mine !== attempt) return;
    if (refusal !== undefined) {
      onState({ state: 'stopped', reason: refusal });
      return;
    }
    await wait(backoff(failures, RETRY_FIRST_MS, RETRY_MAX_MS));
    failures += 1;
    if (mine === attempt) connect();
  }

  function drop() {
    attempt += 1;
    isOpen = false;
    watchdog.stop();
    clearTimeout(settling);
    clearTimeout(impatience);
    source?.close();
    source = null;
  }

  function tellLive() {
    clearTimeout(settling);
    if (isLive) return;
    isLive = true;
    isFull = false;
    failures = 0;
    onState({ state: 'live', resumed: resumes });
  }

  function tellLost(reason, since) {
    if (!isLive) return;
    isLive = false;
    onState({ state: 'reconnecting', reason, since });
  }

  /** An answer of 200 that ends before it has said anything is that of a full server. */
  function tellFull(isNow) {
    if (isFull === isNow) return;
    isFull = isNow;
    onState({ state: 'connecting', reason: isFull ? 'full' : 'lost' });
  }

  onState({ state: lastId === '' ? 'connecting' : 'reconnecting' });
  connect();

  return {
    get lastId() { return lastId; },
    /** Connects anew at once: there is a reason to think that the connection is dead, or that it can be had again. */
    renew() {
      if (performance.now() - attemptedAt < YOUNG_MS) return;
      tellLost('renewed', Date.now());
      connect();
    },
    close: drop,
  };
}
