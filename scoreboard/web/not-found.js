/* What the page shows where there is no such board, or nothing at all: the boards that there are. */

import { byId, element, formatNumber } from './dom.js';

const LISTED_MAX = 100;
const SIGN_IN = 'This server shows its boards to signed-in users only. Sign in, then reload this page.';
const NOT_NOW = 'The boards of this server can’t be listed now. Reload the page to try again.';

/** Takes the place of the board; the text says what was not found. */
export async function showNotFound(text) {
  document.title = 'Not found · scoreboard';
  byId('board-page').hidden = true;
  byId('not-found').hidden = false;
  byId('not-found-what').textContent = text;
  const list = byId('boards');
  const more = byId('boards-more');
  const note = byId('boards-note');
  let cursor = null;

  async function listMore() {
    const page = await readBoards(cursor);
    if (page.boards === undefined) {
      note.textContent = page.status === 401 || page.status === 403 ? SIGN_IN : NOT_NOW;
      return;
    }
    list.append(...page.boards.map(buildItem));
    cursor = page.next;
    more.hidden = cursor === null;
    note.textContent = list.children.length > 0 ? 'These are the boards of this server:' : 'This server has no boards.';
  }

  more.addEventListener('click', listMore);
  await listMore();
}

/** Returns a page of boards, {boards, next}, or {status} when the server refused, 0 when it gave no answer. */
async function readBoards(cursor) {
  const query = new URLSearchParams({ limit: LISTED_MAX, ...(cursor === null ? {} : { cursor }) });
  try {
    const answer = await fetch(`/api/boards?${query}`, { cache: 'no-store' });
    return answer.ok ? await answer.json() : { status: answer.status };
  } catch {
    return { status: 0 };
  }
}

function buildItem({ board, title, total }) {
  const link = element('a', { href: `/?${new URLSearchParams({ board })}` }, element('bdi', {}, title || board));
  const players = `${formatNumber(total)} ${total === 1 ? 'player' : 'players'}`;
  return element('li', {}, link, ' ', element('span', { class: 'muted small' }, players));
}
