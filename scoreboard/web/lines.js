/*
 * Two ways for a page to a stream, with the same verbs: join(isSuspect) when
 * the page is seen, focus() when it has the focus, leave() when it is not seen,
 * close() for good.
 */

import { openSource } from './source.js';

const WORKER = '/web/shared-stream.js';
/* Tabs of an older page keep an older worker alive, which may speak otherwise. */
const SPEECH = 'scoreboard-2';
const TICK_MS = 1000;
const PING_TICKS = 10;
const DEAD_TICKS = 25;
/* Browsers have been seen not to tell of a worker that did not start. */
const START_TICKS = 5;

/** A stream of the page's own. */
export function openOwnLine(view, handlers) {
  let source = null;
  let lastId = '';

  function leave() {
    if (source === null) return;
    lastId = source.lastId;
    source.close();
    source = null;
  }

  return {
    join(isSuspect) {
      if (source === null) source = openSource(view, handlers, lastId);
      else if (isSuspect) source.renew();
    },
    focus() {},
    leave,
    close: leave,
  };
}

/**
 * What all tabs share. Calls onDead() when there is no such worker or it does not answer any more.
 * Time is counted in ticks that came, so that the sleep of a computer is no silence of the worker's.
 */
export function openSharedLine(view, { onState, onFrame, onDead }) {
  const worker = new SharedWorker(WORKER, { type: 'module', name: SPEECH });
  const { port } = worker;
  let place = null;
  let isIn = false;
  let ticks = 0;
  let silentTicks = 0;
  let hasSpoken = false;
  let timer = null;

  function say(what, more = {}) {
    port.postMessage({ say: what, view, ...more });
  }

  const takeMessage = {
    state({ is, ...state }) {
      onState(state);
    },
    frame(frame) {
      const isNews = frame.type === 'heartbeat' || place?.hub !== frame.hub || frame.number > place.number;
      if (isNews) takeMessage.snapshot(frame);
    },
    snapshot({ hub, number, type, data }) {
      place = { hub, number };
      onFrame(type, data);
    },
    pong() {},
    forgotten() {
      say('join', { place, isSuspect: false });
    },
  };

  function tick() {
    ticks += 1;
    silentTicks += 1;
    if (silentTicks > (hasSpoken ? DEAD_TICKS : START_TICKS)) die();
    else if (ticks % PING_TICKS === 0) say('ping');
  }

  function leave() {
    if (!isIn) return;
    isIn = false;
    clearInterval(timer);
    say('leave');
  }

  function close() {
    leave();
    port.close();
  }

  function die() {
    close();
    onDead();
  }

  port.onmessage = ({ data }) => {
    silentTicks = 0;
    hasSpoken = true;
    if (isIn) takeMessage[data.is](data);
  };
  worker.onerror = die;

  return {
    join(isSuspect) {
      if (!isIn) {
        isIn = true;
        silentTicks = 0;
        timer = setInterval(tick, TICK_MS);
      }
      say('join', { place, isSuspect });
    },
    focus() {
      if (isIn) say('focus');
    },
    leave,
    close,
  };
}
