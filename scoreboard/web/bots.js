/* Five demo players who score for a minute, so that there is something to see. */

import { newKey, signIn } from './tokens.js';
import { tryOnce } from './delivery.js';

const NAMES = ['demo-ada', 'demo-grace', 'demo-alan', 'demo-hedy', 'demo-edsger'];
const TICK_MS = 700;
const RUN_MS = 60000;
/* Below 1, so that the bots do not move in step and stay under a limit of 100 a minute each. */
const CHANCE = 0.6;
/* A browser has six connections to a host; a server that hangs must not get them all. */
const UNDER_WAY_MAX = 2;

/** Lets them score until the returned function is called or the time is over. isLive() says whether it makes sense. */
export function runBots(board, actions, tokens, isLive, onStop) {
  const ends = performance.now() + RUN_MS;
  let joined = [];
  let underWay = 0;
  let isStopped = false;

  async function join() {
    const sessions = await Promise.all(NAMES.map((name) => signIn(name)));
    joined = sessions.filter(({ token }) => token !== undefined);
    joined.forEach(tokens.keep);
  }

  function tick() {
    if (performance.now() >= ends) stop();
    else if (isLive()) joined.forEach(({ userId }) => { if (Math.random() < CHANCE) scoreOnce(userId); });
  }

  /* A bot that was refused, by a rate limit for one, or got no answer just misses its turn. */
  async function scoreOnce(userId) {
    if (underWay >= UNDER_WAY_MAX) return;
    underWay += 1;
    const { actionId } = actions[Math.floor(Math.random() * actions.length)];
    await tryOnce({ key: newKey(), userId, board, actionId }, tokens);
    underWay -= 1;
  }

  function stop() {
    if (isStopped) return;
    isStopped = true;
    clearInterval(timer);
    onStop();
  }

  const timer = setInterval(tick, TICK_MS);
  join();
  return stop;
}
