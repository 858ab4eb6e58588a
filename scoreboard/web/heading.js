/* What stands above the board: its title, also in the browser's tab, and links to its windows. */

import { byId, element } from './dom.js';

const WINDOW_TEXT = {
  all: 'All time', day: 'Today', week: 'This week', month: 'This month', year: 'This year', round: 'This round',
};

/* All who see a board hear at the same moment that its settings have changed. */
const SPREAD_MS = 2000;

/** onMissing(text) is called when there is no such board, or it has no such window. */
export function createHeading(view, onMissing) {
  let windows = null;

  /** Reads the board's settings; without an answer it is asked again once the stream is live. */
  async function load() {
    const answer = await fetch(`/api/boards/${encodeURIComponent(view.board)}`, { cache: 'no-store' }).catch(() => null);
    if (answer?.status === 404 || answer?.status === 422) onMissing(`There is no board “${view.board}”`);
    if (!answer?.ok) return;
    const settings = await answer.json().catch(() => null);
    if (settings === null) return;
    ({ windows } = settings);
    show(settings);
    showWindows();
    if (!windows.includes(view.window)) explain();
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
    load,
    loadSoon() {
      setTimeout(load, Math.random() * SPREAD_MS);
    },
    show,
    explain,
  };
}
