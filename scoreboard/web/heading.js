/*
 * What stands above the board: its title, also in the browser's tab, and links to its windows.
 *
 * Frames do not say each change of a title, so a page that is seen reads it again now and then.
 */

import { byId, element } from './dom.js';
import { isBoardId } from './ids.js';

const WINDOW_TEXT = {
  all: 'All time', day: 'Today', week: 'This week', month: 'This month', year: 'This year', round: 'This round',
};

/* All who see a board hear at the same moment that its settings have changed. */
const SPREAD_MS = 2000;
const ANSWER_MAX_MS = 5000;
const READ_EVERY_MS = 60000;
/* There is always this board, so that it can be asked for by its name. */
const SURE_BOARD = 'global';
const LISTED_MAX = 20;

/** onMissing(text) is called when there is no such board, or it has no such window. */
export function createHeading(view, onMissing) {
  let windows = null;
  let readAgainAt = 0;
  let timer = null;

  /** Reads the board's settings; without an answer it is asked again once the stream is live. */
  async function load() {
    readAgainAt = performance.now() + READ_EVERY_MS * (1 + Math.random() / 2);
    const answer = windows === null ? await look(view.board) : await readBoard(view.board);
    if (answer === null) return;
    if (answer === 'missing') {
      onMissing(`There is no board “${view.board}”`);
      return;
    }
    ({ windows } = answer);
    show(answer);
    showWindows();
    if (!windows.includes(view.window)) explain();
  }

  function loadSoon() {
    timer ??= setTimeout(() => {
      timer = null;
      load();
    }, Math.random() * SPREAD_MS);
  }

  function show({ title }) {
    const shown = title || view.board;
    byId('board-name').textContent = shown;
    document.title = `${shown} · scoreboard`;
  }

  function showWindows() {
    const nav = byId('windows');
    nav.hidden = windows.length < 2;
    nav.replaceChildren(...windows.map((name) => {
      const link = element('a', { href: `?${new URLSearchParams({ board: view.board, window: name })}` }, WINDOW_TEXT[name] ?? name);
      if (name === view.window) link.setAttribute('aria-current', 'page');
      return link;
    }));
  }

  /** The stream has no such view. */
  function explain() {
    const isOther = windows !== null && !windows.includes(view.window);
    onMissing(isOther
      ? `The board “${view.board}” has no window “${view.window}”`
      : `There is no board “${view.board}”`);
  }

  return {
    get isKnown() { return windows !== null; },
    /** Whether there is such a view on every server. */
    get isSure() { return view.board === SURE_BOARD && view.window === 'all'; },
    load,
    loadSoon,
    /** Reads the settings again if they were read long ago. */
    refresh() {
      if (performance.now() > readAgainAt) loadSoon();
    },
    show,
    explain,
  };
}

/**
 * Returns a board's settings, 'missing', or null when there was no usable answer. A browser shows a question about what
 * is not there as an error, so a board that need not be there is looked for in the list, from just before its place.
 */
async function look(board) {
  if (board === SURE_BOARD) return readBoard(board);
  if (!isBoardId(board)) return 'missing';
  const before = board.slice(0, -1);
  const query = new URLSearchParams({ limit: LISTED_MAX, ...(isBoardId(before) ? { after: before } : {}) });
  const page = await read(`/api/boards?${query}`);
  if (page === null || page === 'missing') return null;
  const found = page.boards.find((each) => each.board === board);
  // Ids are ASCII, so that they compare here as they do on the server.
  const isPassed = page.next === null || page.boards.at(-1).board > board;
  return found ?? (isPassed ? 'missing' : readBoard(board));
}

function readBoard(board) {
  return read(`/api/boards/${encodeURIComponent(board)}`);
}

async function read(address) {
  try {
    const answer = await fetch(address, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MAX_MS) });
    if (answer.status === 404) return 'missing';
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}
