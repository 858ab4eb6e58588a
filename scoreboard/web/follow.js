/*
 * Follows a board for as long as the page is seen. Tabs of a board share one stream
 * through a SharedWorker, and boards the few that a browser can have; where there is no
 * SharedWorker, each tab that is seen has its own. A tab that is hidden, frozen or
 * offline has none, and goes on from where it was afterwards.
 */

import { openOwnLine, openSharedLine } from './lines.js';

/**
 * Follows a view, {board, window}. Calls onFrame(type, data) for each event of the stream and
 * onState({state, reason, resumed, since}) on each change: connecting, live, reconnecting, offline, or stopped for
 * good. `resumed` says of live whether nothing was missed; `since` says of what is not live when it was so last, null
 * if it never was.
 */
export function follow(view, { onFrame, onState }) {
  let line = null;
  let isOffline = false;
  let isFrozen = false;
  let isIn = false;
  let isLive = false;
  let since = null;

  function changeState({ state, reason, resumed, since: lostAt }) {
    if (state === 'live') {
      isLive = true;
      onState({ state, resumed });
      return;
    }
    if (isLive) since = lostAt ?? Date.now();
    isLive = false;
    const isAgain = state === 'connecting' && since !== null;
    onState({ state: isAgain ? 'reconnecting' : state, reason, since });
  }

  function openLine() {
    const handlers = { onFrame, onState: changeState };
    if (typeof SharedWorker === 'undefined') return openOwnLine(view, handlers);
    try {
      return openSharedLine(view, { ...handlers, onDead: useOwnLine });
    } catch {
      // Some settings of a browser forbid workers and say so by throwing.
      return openOwnLine(view, handlers);
    }
  }

  function useOwnLine() {
    changeState({ state: 'reconnecting', reason: 'worker' });
    line = openOwnLine(view, { onFrame, onState: changeState });
    isIn = false;
    decide();
  }

  /** Joins or leaves, as it is right now. */
  function decide(isSuspect = false) {
    const isWanted = document.visibilityState === 'visible' && !isOffline && !isFrozen;
    if (isWanted && (!isIn || isSuspect)) {
      if (!isIn) changeState({ state: since === null ? 'connecting' : 'reconnecting', reason: 'seen' });
      isIn = true;
      line.join(isSuspect);
    } else if (!isWanted && isIn) {
      isIn = false;
      line.leave();
      if (!isOffline) changeState({ state: 'reconnecting', reason: 'unseen' });
    }
  }

  const listeners = [
    [document, 'visibilitychange', () => decide()],
    [window, 'focus', () => line.focus()],
    [document, 'freeze', () => { isFrozen = true; decide(); }],
    [document, 'resume', () => { isFrozen = false; decide(); }],
    // A page that is left may be kept and shown again.
    [window, 'pagehide', () => { isFrozen = true; decide(); }],
    [window, 'pageshow', () => { isFrozen = false; decide(); }],
    [window, 'offline', () => { isOffline = true; decide(); changeState({ state: 'offline' }); }],
    [window, 'online', () => { isOffline = false; decide(true); }],
  ];
  for (const [target, type, listener] of listeners) target.addEventListener(type, listener);
  line = openLine();
  decide();

  return {
    close() {
      for (const [target, type, listener] of listeners) target.removeEventListener(type, listener);
      line.close();
    },
  };
}
