/*
 * Refreshes a board by plain reads, where no stream can be had. What is seen this way
 * is never called live.
 */

import { readPage } from './page-read.js';

export const READ_EVERY_MS = 10000;
const TOP = 10;

/**
 * The same as openSource, for a view that has to wait for a stream. It has seen no event, so that a stream goes on
 * from lastId afterwards.
 */
export function openPoll(view, { onFrame, onState }, lastId = '') {
  let timer = null;
  let isClosed = false;
  let reason = null;

  function tell(next) {
    if (next === reason) return;
    reason = next;
    onState({ state: 'reconnecting', reason, since: Date.now() });
  }

  async function read() {
    clearTimeout(timer);
    const { page, refusal } = await readPage(view, TOP);
    if (isClosed) return;
    if (refusal !== undefined) {
      close();
      onState({ state: 'stopped', reason: refusal });
      return;
    }
    clearTimeout(timer);
    timer = setTimeout(read, READ_EVERY_MS);
    tell(page === undefined ? 'lost' : 'crowded');
    if (page !== undefined) {
      const { board, leaderboard, total, seq } = page;
      onFrame('leaderboard', { board, top10: leaderboard, total, seq });
    }
  }

  function close() {
    isClosed = true;
    clearTimeout(timer);
  }

  tell('crowded');
  read();

  return {
    lastId,
    /** Reads at once. */
    renew: read,
    close,
  };
}
