/*
 * The Play panel: a button for each action, and bots that make the board move.
 * It stays hidden unless the server runs with its embedded sample.
 */

import { byId, element } from './dom.js';
import { openDemoSession, submitScore } from './submit.js';

const BOT_NAMES = ['demo-ada', 'demo-grace', 'demo-alan', 'demo-hedy', 'demo-edsger'];
const BOT_TICK_MS = 700;
const BOTS_RUN_MS = 60000;
/* Below 1, so that the bots do not move in step and stay under a limit of 100 a minute each. */
const BOT_CHANCE = 0.6;

/**
 * Shows the panel if there is a demo for this board. onPlay(userId) is called when
 * the person at the page acts as that user.
 */
export async function createDemo(board, userId, onPlay) {
  let session = await openDemoSession(userId);
  // The remembered player may be one whom the demo may not be; then the server picks a name.
  if (session === null && userId !== null) session = await openDemoSession(null);
  if (session === null || session.board !== board) return null;

  const message = byId('play-message');
  byId('play').hidden = false;
  byId('empty-demo').hidden = false;
  showPlayer(session);
  byId('play-actions').replaceChildren(...session.actions.map((action) => actionButton(action, press)));
  setUpBots(byId('bots'), byId('bots-note'));

  async function press(actionId) {
    onPlay(session.userId);
    message.textContent = '';
    try {
      await submitScore(session, actionId);
    } catch (error) {
      message.textContent = error.message;
    }
  }

  return {
    userId: session.userId,
    /** The server is back, so what could not be reached is no news any more. */
    forgetFailure() {
      message.textContent = '';
    },
    /** Plays as another user from now on, if the server lets the demo be that user. */
    async playAs(nextId) {
      if (nextId === session.userId) return;
      const next = await openDemoSession(nextId);
      if (next === null) return;
      session = next;
      showPlayer(session);
    },
  };
}

function showPlayer({ userId }) {
  byId('play-name').textContent = userId;
}

function actionButton({ actionId, points }, press) {
  const worth = element('span', { class: 'worth' }, points < 0 ? `−${-points}` : `+${points}`);
  const button = element('button', { type: 'button', class: 'primary' }, `${actionId} `, worth);
  button.addEventListener('click', () => press(actionId));
  return button;
}

function setUpBots(button, note) {
  const idleNote = note.textContent;
  let stopBots = null;

  function show(isRunning) {
    button.classList.toggle('primary', isRunning);
    button.textContent = isRunning ? 'Stop bots' : 'Start bots';
    note.textContent = isRunning ? 'Five players are scoring; they stop after a minute.' : idleNote;
  }

  button.addEventListener('click', () => {
    if (stopBots) {
      stopBots();
      return;
    }
    show(true);
    stopBots = runBots(() => {
      stopBots = null;
      show(false);
    });
  });
}

/** Lets five demo users score until the returned function is called or a minute is over. */
function runBots(onStop) {
  const ends = performance.now() + BOTS_RUN_MS;
  const sessions = [];
  let isStopped = false;

  async function join(name) {
    const session = await openDemoSession(name);
    if (session) sessions.push({ ...session, isBusy: false });
  }

  function tick() {
    if (performance.now() >= ends) stop();
    for (const session of sessions) {
      if (!isStopped && Math.random() < BOT_CHANCE) scoreOnce(session);
    }
  }

  function stop() {
    if (isStopped) return;
    isStopped = true;
    clearInterval(timer);
    onStop();
  }

  const timer = setInterval(tick, BOT_TICK_MS);
  BOT_NAMES.forEach(join);
  return stop;
}

/** One submission at a time for each bot, so that a slow server is not piled upon. */
async function scoreOnce(bot) {
  if (bot.isBusy) return;
  bot.isBusy = true;
  const action = bot.actions[Math.floor(Math.random() * bot.actions.length)];
  try {
    await submitScore(bot, action.actionId);
  } catch {
    // A bot that was refused, by a rate limit for one, just misses its turn.
  } finally {
    bot.isBusy = false;
  }
}
