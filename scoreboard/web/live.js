/*
 * The live page: takes frames from the stream into one small state, and draws
 * that state at most once per animation frame, however many frames arrived.
 */

import { createActivity, keepRecent } from './activity.js';
import { createDemo } from './demo.js';
import { byId, formatNumber } from './dom.js';
import { createMe, rememberedUserId, rememberUserId, userIdProblem } from './me.js';
import { createPinnedRow, createRows } from './rows.js';
import { openStream } from './stream.js';

const STATE_TEXT = {
  connecting: 'Connecting',
  live: 'Live',
  reconnecting: 'Reconnecting',
  'sign-in': 'Signed out',
  'no-board': 'Stopped',
};

const PLAYERS_BY_CHANGE = { hidden: -1, shown: 1 };
const WINDOW_TEXT = { all: 'All time', day: 'Today', week: 'This week', month: 'This month' };

const asked = new URLSearchParams(location.search);
const board = asked.get('board') || 'global';
const shownWindow = asked.get('window') || 'all';
const view = { top10: null, total: null, totalSeq: 0, updates: [] };
let drawIsDue = false;

const renderRows = createRows(byId('rows'));
const renderPinned = createPinnedRow(byId('me-row'));
const renderActivity = createActivity(byId('activity'), byId('activity-empty'));
const me = createMe({ board, window: shownWindow }, drawSoon);

const takeFrame = {
  leaderboard(frame) {
    view.top10 = frame.top10;
    view.total = frame.total;
    view.totalSeq = frame.seq;
    me.takeTop(frame);
  },
  'score-updated'(update) {
    keepRecent(view.updates, update);
    countNewcomer(update);
    me.takeUpdate(update);
  },
  /** Somebody was renamed, hidden or is shown again. */
  'user-updated'({ userId, change, seq }) {
    if (view.total !== null && seq > view.totalSeq) view.total += PLAYERS_BY_CHANGE[change] ?? 0;
    if (userId === me.userId) me.reload();
  },
  /** The position in an old history says nothing about the new one; a snapshot follows. */
  reset() {
    view.totalSeq = 0;
    me.forgetPosition();
  },
};

/** A first score below the top ten brings no `leaderboard` frame, yet adds a player. */
function countNewcomer({ rank, previousRank, seq }) {
  const isFirstScore = previousRank === null && rank !== null;
  if (isFirstScore && view.total !== null && seq > view.totalSeq) view.total += 1;
}

function drawSoon() {
  if (drawIsDue) return;
  drawIsDue = true;
  requestAnimationFrame(draw);
}

function draw() {
  drawIsDue = false;
  const top10 = view.top10 ?? [];
  renderRows(top10, me.userId);
  renderPinned(me.entry, me.note, top10[0]?.score ?? 0);
  renderActivity(view.updates.splice(0), nameOf);
  if (view.top10 === null) return;
  byId('empty').hidden = top10.length > 0;
  byId('total').textContent = formatNumber(view.total);
  byId('total-unit').textContent = view.total === 1 ? 'player' : 'players';
}

/** Updates carry ids only; a display name is known for those in the top ten. */
function nameOf(userId) {
  const entry = view.top10?.find((candidate) => candidate.userId === userId);
  return entry?.displayName ?? userId;
}

function showState(state) {
  const pill = byId('connection');
  pill.dataset.state = state;
  pill.textContent = STATE_TEXT[state];
  const notice = byId('notice');
  notice.hidden = state !== 'sign-in' && state !== 'no-board';
  if (state === 'sign-in') notice.textContent = 'This server shows scores to signed-in users only. Sign in, then reload this page.';
  if (state === 'no-board') notice.textContent = `This server has no board “${board}”, or the board has no window “${shownWindow}”.`;
}

function showEmptyHelp() {
  const body = JSON.stringify({ actionId: 'win', board });
  byId('empty-curl').textContent = [
    'TOKEN=$(scoreboard token --user alice)',
    `curl ${location.origin}/api/scores \\`,
    '  -H "Authorization: Bearer $TOKEN" \\',
    "  -H 'Content-Type: application/json' \\",
    `  -d '${body}'`,
  ].join('\n');
}

/** Links to the board's windows, where it has more than one. */
async function showWindows() {
  const answer = await fetch(`/api/boards/${encodeURIComponent(board)}`).catch(() => null);
  if (!answer?.ok) return;
  const { windows } = await answer.json();
  const nav = byId('windows');
  nav.hidden = windows.length < 2;
  nav.replaceChildren(...windows.map((name) => {
    const link = document.createElement('a');
    link.href = `?${new URLSearchParams({ board, window: name })}`;
    link.textContent = WINDOW_TEXT[name];
    if (name === shownWindow) link.setAttribute('aria-current', 'page');
    return link;
  }));
}

function setUpForm(onChoice) {
  const input = byId('me-input');
  input.addEventListener('input', () => input.setCustomValidity(''));
  byId('me-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const userId = input.value.trim() === '' ? null : input.value;
    input.setCustomValidity(userId === null ? '' : userIdProblem(userId));
    if (input.reportValidity()) onChoice(userId);
  });
}

function become(userId) {
  byId('me-input').value = userId ?? '';
  me.follow(userId);
}

async function start() {
  byId('board-name').textContent = board;
  document.title = `${board} · scoreboard`;
  showEmptyHelp();
  showWindows();
  let demo = null;
  openStream({ board, window: shownWindow }, {
    onState(state) {
      showState(state);
      if (state === 'live') demo?.forgetFailure();
    },
    onFrame(type, data) {
      takeFrame[type](data);
      drawSoon();
    },
  });

  become(rememberedUserId());
  const choose = (userId) => {
    become(userId);
    rememberUserId(userId);
    if (userId !== null) demo?.playAs(userId);
  };
  setUpForm(choose);
  demo = await createDemo(board, me.userId, choose);
  if (demo && me.userId === null) choose(demo.userId);
}

start();
