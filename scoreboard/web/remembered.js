/* Who is followed, who plays, and who of them has scored: remembered for the next visit, each by itself. */

import { spell, userIdProblem } from './ids.js';
import { recall, remember } from './memory.js';
import { isDemoUser } from './tokens.js';

const FOLLOWED = 'scoreboard.me';
const PLAYER = 'scoreboard.player';
const SCORED = 'scoreboard.scored.';

/** Who is to be followed, {userId, problem}: `?me=` wins over what this browser remembers. */
export function rememberedUser() {
  const asked = new URLSearchParams(location.search).get('me');
  const userId = spell(asked ?? recall(FOLLOWED) ?? '');
  if (userId.trim() === '') return { userId: null, problem: '' };
  const problem = userIdProblem(userId);
  return problem === '' ? { userId, problem } : { userId: null, problem: asked === null ? '' : problem };
}

/** Remembers a choice made on the page, and drops `?me=`, which would win over it on reload. */
export function rememberUser(userId) {
  remember(FOLLOWED, userId);
  const address = new URL(location.href);
  if (!address.searchParams.has('me')) return;
  address.searchParams.delete('me');
  history.replaceState(null, '', address);
}

/** The demo user who plays in this browser, whoever else is followed; null if there is none yet. */
export function rememberedPlayer() {
  return [recall(PLAYER), recall(FOLLOWED)].find(isDemoUser) ?? null;
}

export function rememberPlayer(userId) {
  remember(PLAYER, userId);
}

/** Whether this browser has seen the player with a score in a view. Of a hidden player nothing public says so. */
export function hasScored(userId, view) {
  return recall(scoredKey(view)) === userId;
}

export function rememberScored(userId, view) {
  if (!hasScored(userId, view)) remember(scoredKey(view), userId);
}

export function forgetScored(userId, view) {
  if (hasScored(userId, view)) remember(scoredKey(view), null);
}

function scoredKey({ board, window }) {
  return `${SCORED}${board}/${window}`;
}
