/*
 * The live page: takes frames from the stream into one small state, and draws
 * that state at most once per animation frame, however many frames arrived.
 */

import { createActivity, keepRecent } from './activity.js';
import { createBoard } from './board.js';
import { byId, formatNumber } from './dom.js';
import { follow } from './follow.js';
import { createHeading } from './heading.js';
import { spell, userIdProblem } from './ids.js';
import { createMe } from './me.js';
import { createNames } from './names.js';
import { showNotFound } from './not-found.js';
import { createPlay } from './play.js';
import { hasScored, rememberedUser, rememberUser } from './remembered.js';
import { createPinnedRow, createRows } from './rows.js';
import { createStateView } from './state.js';

const asked = new URLSearchParams(location.search);
const view = { board: asked.get('board') || 'global', window: asked.get('window') || 'all' };
const showState = createStateView(byId('connection'), document.body);

/* The server says in the page whether it has anything at this address. */
if (document.documentElement.dataset.page === 'not-found') {
  stop(`There is nothing at ${location.pathname}`);
} else {
  start();
}

function stop(text) {
  showState({ state: 'stopped', reason: 'no-board' });
  showNotFound(text);
}

function start() {
  const board = createBoard();
  const updates = [];
  const names = createNames(view, () => {
    activity.rename();
    drawSoon();
  });
  const activity = createActivity(byId('activity'), byId('activity-empty'), names.of);
  const me = createMe(view, {
    isOwn: (userId) => play?.userId === userId,
    find: async (userId) => await play?.tokenOf(userId) ?? null,
    forget: (userId, token) => play?.forgetToken(userId, token),
  }, drawSoon);
  const heading = createHeading(view, leave);
  const renderRows = createRows(byId('rows'));
  const renderPinned = createPinnedRow(byId('me-row'));
  let drawIsDue = false;
  let isLive = false;
  let wasLive = false;
  let isLeft = false;
  let play = null;
  let line = null;

  const takeFrame = {
    leaderboard(frame) {
      if (frame.title !== undefined) heading.show(frame);
      me.takeTop(frame);
    },
    'score-updated'(update) {
      keepRecent(updates, update);
      me.takeUpdate(update);
    },
    /** Somebody was renamed, hidden or is shown again. */
    'user-updated'({ userId, change }) {
      if (change === 'hidden') {
        updates.splice(0, updates.length, ...updates.filter((update) => update.userId !== userId));
        activity.forget(userId);
      } else {
        activity.rename();
      }
      if (userId === me.userId) me.reload();
    },
    /** What was shown does not hold any more, and may name somebody who was erased; a snapshot follows. */
    reset({ reason }) {
      updates.length = 0;
      activity.clear();
      names.forget();
      me.forget();
      if (reason === 'settings') heading.loadSoon();
    },
    heartbeat() {},
  };

  function drawSoon() {
    if (drawIsDue) return;
    drawIsDue = true;
    requestAnimationFrame(draw);
  }

  function draw() {
    drawIsDue = false;
    activity.add(updates.splice(0));
    if (board.top === null) return;
    const { top10 } = board.top;
    renderRows(top10, me.userId);
    renderPinned(pinnedOf(top10, me.entry), me.note, top10[0]?.score ?? 0);
    byId('empty').hidden = top10.length > 0;
    byId('total').textContent = formatNumber(board.total);
    byId('total-unit').textContent = board.total === 1 ? 'player' : 'players';
  }

  function takeState(state) {
    isLive = state.state === 'live';
    showState(state);
    byId('notice').hidden = state.reason !== 'sign-in';
    if (state.reason === 'no-board') heading.explain();
    if (!isLive) return;
    play?.wake();
    activity.rename();
    if (heading.isKnown) heading.refresh();
    else heading.load();
    if (wasLive && !state.resumed) me.reload();
    wasLive = true;
  }

  function leave(text) {
    if (isLeft) return;
    isLeft = true;
    line?.close();
    stop(text);
  }

  function begin() {
    if (isLeft) return;
    line = follow(view, {
      onState: takeState,
      onFrame(type, data) {
        board.take(type, data);
        names.take(type, data);
        takeFrame[type](data);
        heading.refresh();
        drawSoon();
      },
    });
    const { userId, problem } = rememberedUser();
    become(userId);
    if (problem !== '') byId('me-note').textContent = problem;
    createPlay(view.board, me.userId, { onPlay: choose, onCounted: me.takeReceipt, isLive: () => isLive }).then(joinIn);
  }

  function joinIn(created) {
    play = created;
    if (play === null) return;
    if (me.userId === null) choose(play.userId);
    else if (me.entry.score === null && hasScored(me.userId, view)) me.reload();
  }

  function become(userId) {
    byId('me-input').value = userId ?? '';
    me.follow(userId);
  }

  function choose(userId) {
    become(userId);
    rememberUser(userId);
    if (userId !== null) play?.playAs(userId);
  }

  setUpForm(choose);
  const known = heading.load();
  // A view that need not be there is looked up first: a browser shows each question about nothing as an error.
  if (heading.isSure) begin();
  else known.then(begin);
}

/** Who is in the top ten has a row there, and above an empty board nobody without a score has one. */
function pinnedOf(top10, entry) {
  if (entry === null || top10.some(({ userId }) => userId === entry.userId)) return null;
  return entry.score === null && top10.length === 0 ? null : entry;
}

function setUpForm(onChoice) {
  const input = byId('me-input');
  input.addEventListener('input', () => input.setCustomValidity(''));
  byId('me-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const userId = input.value.trim() === '' ? null : spell(input.value);
    input.setCustomValidity(userId === null ? '' : userIdProblem(userId));
    if (input.reportValidity()) onChoice(userId);
  });
}
