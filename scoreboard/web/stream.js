/*
 * Keeps one board's event stream open.
 *
 * EventSource reconnects by itself and resumes with Last-Event-ID as long as the
 * server answers 200. On any other answer it gives up for good and does not say
 * why, so this module asks the leaderboard once, and then either stops with a
 * reason or opens a new stream with backoff. A new stream starts with a
 * snapshot, so nothing has to be carried over.
 */

import { wait } from './dom.js';

const FRAME_TYPES = ['leaderboard', 'score-updated', 'user-updated', 'reset'];
const RETRY_FIRST_MS = 1000;
const RETRY_MAX_MS = 30000;
const REFUSALS = { 401: 'sign-in', 403: 'sign-in', 404: 'no-board', 422: 'no-board' };

/**
 * Follows a view, {board, window}. Calls onFrame(type, data) for each frame and onState(state) on each change of
 * state: connecting, live, reconnecting, or for good: sign-in, no-board.
 */
export function openStream(view, { onFrame, onState }) {
  const query = new URLSearchParams(view);
  let failures = 0;

  function connect() {
    const source = new EventSource(`/api/leaderboard/stream?${query}`);
    source.onopen = () => {
      failures = 0;
      onState('live');
    };
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) recover();
      else onState('reconnecting');
    };
    for (const type of FRAME_TYPES) {
      source.addEventListener(type, (event) => onFrame(type, JSON.parse(event.data)));
    }
  }

  async function recover() {
    onState('reconnecting');
    const refusal = await refusalReason(query);
    if (refusal) {
      onState(refusal);
      return;
    }
    await wait(retryDelay(failures));
    failures += 1;
    connect();
  }

  onState('connecting');
  connect();
}

async function refusalReason(query) {
  try {
    const answer = await fetch(`/api/leaderboard?limit=1&${query}`, { cache: 'no-store' });
    return REFUSALS[answer.status] ?? null;
  } catch {
    // The server cannot be reached at all, which is a reason to try again.
    return null;
  }
}

/** Half of the delay is random, so that many pages do not come back at once. */
function retryDelay(failures) {
  const longest = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** failures);
  return longest * (0.5 + Math.random() / 2);
}
