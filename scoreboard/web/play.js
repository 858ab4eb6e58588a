/*
 * The Play panel: a button for each action with a price, what became of those that
 * were pressed, and bots. It stays hidden where there is no demo for this board.
 */

import { formatPoints } from './activity.js';
import { runBots } from './bots.js';
import { byId, element, formatNumber } from './dom.js';
import { createOutbox } from './outbox.js';
import { rememberedPlayer, rememberPlayer } from './remembered.js';
import { createTokens, hasDemo, isDemoUser, signIn } from './tokens.js';

/* The demo is of this board alone. */
const DEMO_BOARD = 'global';
const BOTS_RUN = 'Five players are scoring; they stop after a minute.';
/* What counts at once is seen on the board and needs no words. */
const SHOWN_AFTER_MS = 400;
const COUNTED_SHOWN_MS = 6000;
const SHOWN_MAX = 20;

/**
 * Shows the panel if there is a demo for this board. onPlay(userId) is called when the person at the page acts as
 * that user, onCounted(userId) when a submission of theirs counted; isLive() says whether the board is live.
 */
export async function createPlay(board, userId, { onPlay, onCounted, isLive }) {
  if (board !== DEMO_BOARD || !hasDemo()) return null;
  // Who is followed may be one whom the demo may not be. Without a player from before the server picks a name.
  let session = await signIn(isDemoUser(userId) ? userId : rememberedPlayer());
  if (session.token === undefined) return null;
  if (rememberedPlayer() === null) rememberPlayer(session.userId);
  const actions = session.actions.filter(({ points }) => Number.isInteger(points));
  if (actions.length === 0) return null;

  const tokens = createTokens();
  tokens.keep(session);
  const showFate = createFates(byId('outbox'), (item) => outbox.again(item), (item) => outbox.drop(item));
  const outbox = createOutbox(tokens, (item) => {
    showFate(item);
    if (item.is === 'counted') onCounted(item.userId);
  });
  byId('play').hidden = false;
  byId('empty-demo').hidden = false;
  showPlayer(session);
  byId('play-actions').replaceChildren(...actions.map((action) => actionButton(action, press)));
  setUpBots((onStop) => runBots(board, actions, tokens, isLive, onStop));
  outbox.restore();

  function press(action) {
    onPlay(session.userId);
    rememberPlayer(session.userId);
    const isTaken = outbox.add(session.userId, board, action);
    byId('play-message').textContent = isTaken ? '' : 'Too many are on their way. Wait until they are through.';
  }

  return {
    get userId() { return session.userId; },
    /** The token of the user who plays, null for anybody else, or where the server gives none. */
    async tokenOf(other) {
      return other === session.userId ? (await tokens.of(other)).token ?? null : null;
    },
    /** The server does not take this token any more. */
    forgetToken: tokens.forget,
    /** The server is back: what waits for it is sent now. */
    wake: outbox.wake,
    /** Plays as another user from now on, if the demo may be that user. */
    async playAs(nextId) {
      if (nextId === session.userId || !isDemoUser(nextId)) return;
      const next = await tokens.of(nextId);
      if (next.token === undefined) return;
      session = next;
      rememberPlayer(nextId);
      showPlayer(session);
    },
  };
}

function showPlayer({ userId }) {
  byId('play-name').textContent = userId;
}

function actionButton(action, press) {
  const worth = element('span', { class: 'worth' }, formatPoints(action.points));
  const button = element('button', { type: 'button', class: 'primary' }, `${action.actionId} `, worth);
  button.addEventListener('click', () => press(action));
  return button;
}

/** Returns a function that shows what has become of an item. */
function createFates(list, again, drop) {
  const nodes = new Map();

  function close(item) {
    nodes.get(item)?.remove();
    nodes.delete(item);
  }

  function show(item) {
    const node = nodes.get(item) ?? element('li', {});
    nodes.set(item, node);
    node.dataset.is = item.is;
    node.replaceChildren(...describe(item), ...buttons(item));
    if (!node.isConnected) list.append(node);
    while (list.children.length > SHOWN_MAX) list.firstElementChild.remove();
  }

  function buttons(item) {
    if (item.is === 'unknown') return [button('Try again', () => again(item)), button('Dismiss', () => dismiss(item))];
    return item.is === 'refused' ? [button('Dismiss', () => dismiss(item))] : [];
  }

  function dismiss(item) {
    drop(item);
    close(item);
  }

  return function take(item) {
    if (item.is === 'pending') {
      const isKnown = nodes.has(item) || item.isRestored;
      setTimeout(() => { if (item.is === 'pending') show(item); }, isKnown ? 0 : SHOWN_AFTER_MS);
    } else if (item.is === 'counted') {
      if (!nodes.has(item) && !item.isRestored) return;
      show(item);
      setTimeout(() => close(item), COUNTED_SHOWN_MS);
    } else {
      show(item);
    }
  };
}

function button(text, onClick) {
  const node = element('button', { type: 'button' }, text);
  node.addEventListener('click', onClick);
  return node;
}

const FATES = {
  pending: () => 'pending: it is sent until the server answers',
  counted: ({ receipt }) => `counted: the score is ${formatNumber(receipt.newScore)}`,
  refused: ({ message }) => `did not count. ${message}`,
  unknown: ({ message }) => `may have counted or not. ${message}`,
};

function describe(item) {
  return [element('strong', {}, `${item.actionId} ${formatPoints(item.points)}`), ' ', FATES[item.is](item)];
}

function setUpBots(run) {
  const starter = byId('bots');
  const note = byId('bots-note');
  const idleNote = note.textContent;
  let stop = null;

  function show(isRunning) {
    starter.classList.toggle('primary', isRunning);
    starter.textContent = isRunning ? 'Stop bots' : 'Start bots';
    note.textContent = isRunning ? BOTS_RUN : idleNote;
  }

  starter.addEventListener('click', () => {
    if (stop !== null) {
      stop();
      return;
    }
    show(true);
    stop = run(() => {
      stop = null;
      show(false);
    });
  });
}
