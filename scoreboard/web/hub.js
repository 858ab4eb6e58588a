/*
 * One stream for all tabs that show the same board: it is open while at least one
 * of them is seen. A browser has six HTTP/1.1 connections to a host for all of its
 * tabs, and a stream holds one for good.
 *
 * A tab that is seen says so (join) and goes on saying so (ping), since one that
 * is killed or frozen can say nothing. Who joins late gets what it missed, or what
 * the board is like now.
 */

import { createBoard } from './board.js';

/* A seen tab pings every ten seconds. */
const VIEWER_SILENT_MAX_MS = 32000;
const SWEEP_MS = 4000;
/* Between two tabs there is a moment in which neither is seen. */
const LINGER_MS = 1000;
const KEPT_FRAMES_MAX = 300;
const RECENT_MAX = 8;

/** open(handlers, lastId) opens the stream, as openSource does; take(port, message) takes what a tab says. */
export function createHub(open) {
  const name = `${Date.now()}-${Math.random()}`;
  const viewers = new Map();
  const board = createBoard();
  const kept = [];
  let number = 0;
  let source = null;
  let lastId = '';
  let state = { state: 'connecting' };
  let closing = null;

  const takeMessage = {
    join(port, { place, isSuspect }) {
      clearTimeout(closing);
      viewers.set(port, { heardAt: performance.now(), resumed: catchUp(port, place) });
      if (source === null) start();
      else if (isSuspect) source.renew();
      tellState(port);
    },
    ping(port) {
      const viewer = viewers.get(port);
      if (viewer) viewer.heardAt = performance.now();
      port.postMessage({ is: viewer ? 'pong' : 'forgotten' });
    },
    leave,
  };

  function start() {
    source = open({ onState: changeState, onFrame: spread }, lastId);
  }

  function leave(port) {
    viewers.delete(port);
    if (viewers.size > 0) return;
    clearTimeout(closing);
    closing = setTimeout(stop, LINGER_MS);
  }

  function stop() {
    if (source === null) return;
    // Without a snapshot there is nothing that a resumed stream could go on from.
    lastId = board.top === null ? '' : source.lastId;
    source.close();
    source = null;
  }

  function changeState(next) {
    state = next;
    // The next tab may try again: a board can be made, and a reader sign in.
    if (next.state === 'stopped') source = null;
    for (const port of viewers.keys()) tellState(port);
  }

  function tellState(port) {
    const viewer = viewers.get(port);
    port.postMessage({ is: 'state', ...state, resumed: Boolean(state.resumed && viewer.resumed) });
    if (state.state === 'live') viewer.resumed = true;
  }

  function spread(type, data) {
    board.take(type, data);
    if (type !== 'heartbeat') {
      number += 1;
      kept.push({ number, type, data });
      if (kept.length > KEPT_FRAMES_MAX) kept.shift();
    }
    for (const port of viewers.keys()) sendFrame(port, { number, type, data });
  }

  function sendFrame(port, frame) {
    port.postMessage({ is: 'frame', hub: name, ...frame });
  }

  /** Brings a tab up to here; false if it only gets to know what the board is like now. */
  function catchUp(port, place) {
    const isKnown = place !== null && place.hub === name && place.number >= number - kept.length;
    if (isKnown) {
      for (const frame of kept) if (frame.number > place.number) sendFrame(port, frame);
      return true;
    }
    const recent = kept.filter(({ type }) => type === 'score-updated').slice(-RECENT_MAX);
    for (const frame of recent) sendFrame(port, frame);
    if (board.top !== null) {
      const data = { ...board.top, total: board.total };
      port.postMessage({ is: 'snapshot', hub: name, number, type: 'leaderboard', data });
    }
    return false;
  }

  function sweep() {
    const oldest = performance.now() - VIEWER_SILENT_MAX_MS;
    for (const [port, { heardAt }] of viewers) if (heardAt < oldest) leave(port);
  }

  setInterval(sweep, SWEEP_MS);

  return {
    take(port, message) {
      takeMessage[message.say](port, message);
    },
  };
}
