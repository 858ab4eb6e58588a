/*
 * The state element: a small mark while the board is live. Otherwise it says since
 * when it is not, large enough for the back of the room, and the board is dimmed.
 */

import { READ_EVERY_MS } from './poll.js';

const TEXT = { live: 'Live', connecting: 'Connecting' };
const REASONS = {
  full: 'the server is full, trying again',
  crowded: `too many boards are open in this browser: this one is refreshed every ${READ_EVERY_MS / 1000} s`,
};
const STOPPED = { 'sign-in': 'Signed out', 'no-board': 'Not found' };
/* The time that a new connection takes is no news. */
const DIMMED_AFTER_MS = 300;
const SLOW_AFTER_MS = 3000;
const DAY_MS = 86400000;
const TIME = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const DAY = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

/** Returns a function that shows a state, {state, reason, since}, in an element and dims a page's body. */
export function createStateView(node, body) {
  let timer = null;

  function say(text) {
    // An equal text is not set again, so that it is not read out again.
    if (node.textContent !== text) node.textContent = text;
  }

  return function show({ state, reason, since }) {
    clearTimeout(timer);
    node.dataset.state = state;
    say(describe(state, reason, since));
    const isDimmed = state === 'reconnecting' || state === 'offline' || reason in REASONS;
    if (!isDimmed || reason === 'seen') body.classList.remove('not-live');
    if (isDimmed) timer = setTimeout(() => body.classList.add('not-live'), DIMMED_AFTER_MS);
    if (state === 'connecting' && !(reason in REASONS)) {
      timer = setTimeout(() => {
        say('Not live yet — connecting');
        body.classList.add('not-live');
      }, SLOW_AFTER_MS);
    }
  };
}

function describe(state, reason, since) {
  if (state === 'stopped') return STOPPED[reason];
  if (state in TEXT && !(reason in REASONS)) return TEXT[state];
  const what = state === 'offline' ? 'no network' : REASONS[reason] ?? 'reconnecting';
  return since === null ? `Not live yet — ${what}` : `Not live since ${formatMoment(since)} — ${what}`;
}

function formatMoment(moment) {
  const time = TIME.format(moment);
  return Date.now() - moment < DAY_MS ? time : `${DAY.format(moment)}, ${time}`;
}
