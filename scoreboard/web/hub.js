/*
 * One source of frames for all tabs that show the same board: it is open while at
 * least one of them is seen. Which kind it is, a stream or plain reads, is decided
 * for all boards together (share.js).
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

/** onChange() is called when the hub wants a source, or another hub may have this one's. */
export function createHub(view, onChange) {
  const name = `${Date.now()}-${Math.random()}`;
  const viewers = new Map();
  const board = createBoard();
  const kept = [];
  let number = 0;
  let source = null;
  let sourceOpener = null;
  let isStopped = false;
  let lastId = '';
  let state = { state: 'connecting' };
  let closing = null;
  let seenAt = 0;

  const takeMessage = {
    join(port, { place, isSuspect }) {
      clearTimeout(closing);
      viewers.set(port, { heardAt: performance.now(), resumed: catchUp(port, place) });
      seenAt = performance.now();
      // A refusal may not hold any more: a board can be made, and a reader sign in.
      isStopped = false;
      const wasOpen = source !== null;
      onChange();
      if (wasOpen && isSuspect) source.renew();
      tellState(port);
    },
    /** A tab that was seen all along has the focus now. */
    focus(port) {
      if (!viewers.has(port)) return;
      seenAt = performance.now();
      onChange();
    },
    ping(port) {
      const viewer = viewers.get(port);
      if (viewer) viewer.heardAt = performance.now();
      port.postMessage({ is: viewer ? 'pong' : 'forgotten' });
    },
    leave,
  };

  /** Has its frames from such a source from now on, opened by open(view, handlers, lastId), or from none for null. */
  function use(open) {
    if (source !== null && open === sourceOpener) return;
    stop();
    if (open === null || isStopped) return;
    sourceOpener = open;
    source = open(view, { onState: changeState, onFrame: spread }, lastId);
  }

  function leave(port) {
    viewers.delete(port);
    if (viewers.size > 0) return;
    clearTimeout(closing);
    closing = setTimeout(() => {
      stop();
      onChange();
    }, LINGER_MS);
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
    for (const port of viewers.keys()) tellState(port);
    if (next.state !== 'stopped') return;
    source = null;
    isStopped = true;
    onChange();
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
      // What was before a reset does not hold any more, and may name somebody who was erased.
      if (type === 'reset') kept.length = 0;
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
    // A tab that knows an older board may have missed a reset.
    if (place !== null) tell(port, 'reset', { reason: 'missed' });
    const recent = kept.filter(({ type }) => type === 'score-updated').slice(-RECENT_MAX);
    for (const frame of recent) tell(port, frame.type, frame.data);
    if (board.top !== null) {
      // The title may have changed since, and a tab reads it for itself.
      tell(port, 'leaderboard', { ...board.top, total: board.total, title: undefined });
    }
    return false;
  }

  function tell(port, type, data) {
    port.postMessage({ is: 'snapshot', hub: name, number, type, data });
  }

  function sweep() {
    const oldest = performance.now() - VIEWER_SILENT_MAX_MS;
    for (const [port, { heardAt }] of viewers) if (heardAt < oldest) leave(port);
  }

  const sweeper = setInterval(sweep, SWEEP_MS);

  return {
    get isOpen() { return source !== null; },
    get isSeen() { return viewers.size > 0; },
    /** Whether it has tabs and no source, and may have one. */
    get wantsSource() { return source === null && viewers.size > 0 && !isStopped; },
    get seenAt() { return seenAt; },
    use,
    take(port, message) {
      takeMessage[message.say](port, message);
    },
    /** For good; nobody sees it. */
    end() {
      clearInterval(sweeper);
      clearTimeout(closing);
      stop();
    },
  };
}
