/*
 * The rows of the board. Each player keeps one row for as long as they are in
 * the top ten, so that a change of rank moves the row and does not redraw it.
 */

import { element } from './dom.js';
import { countTo, fadeAway, fadeIn, flash, glideFrom, showMove, topOf } from './motion.js';

/* Rows that fade out at one time; under a storm of changes the rest just go. */
const LEAVING_MAX = 10;

/** Returns a function that shows a list of entries and marks the player `meId`. */
export function createRows(body) {
  const rows = new Map();

  return function render(entries, meId) {
    const seenTops = new Map([...rows.values()].map((row) => [row, topOf(row.node)]));
    const isFirstRender = rows.size === 0;
    removeMissing(body, rows, entries);

    const leaderScore = entries.length > 0 ? entries[0].score : 0;
    entries.forEach((entry, index) => {
      const row = rows.get(entry.userId) ?? buildRow();
      rows.set(entry.userId, row);
      placeAt(body, row.node, index);
      fillRow(row, entry, leaderScore);
      markMine(row.node, entry.userId === meId);
    });

    for (const row of rows.values()) {
      if (seenTops.has(row)) glideFrom(row.node, seenTops.get(row));
      else if (!isFirstRender) fadeIn(row.node);
    }
  };
}

/** Returns a function that shows one pinned entry, or hides the row for null. */
export function createPinnedRow(foot) {
  let row = buildRow();
  let shownId = null;
  foot.append(row.node);

  return function render(entry, note, leaderScore) {
    foot.hidden = entry === null;
    if (entry === null) return;
    if (entry.userId !== shownId) {
      // Another player starts from a fresh row, so that scores do not count from one to the other.
      row = buildRow();
      foot.replaceChildren(row.node);
      shownId = entry.userId;
    }
    fillRow(row, entry, leaderScore);
    row.note.textContent = note;
  };
}

/** The followed player's row is marked for the eye and for readers of screens. */
function markMine(node, isMine) {
  node.classList.toggle('is-me', isMine);
  if (isMine) node.setAttribute('aria-current', 'true');
  else node.removeAttribute('aria-current');
}

function buildRow() {
  const rank = element('span', { class: 'medal' });
  const name = element('bdi', { class: 'name clip' });
  const note = element('span', { class: 'note' });
  const move = element('span', { class: 'move', 'aria-hidden': 'true' });
  const score = element('span');
  const scoreCell = element('td', { class: 'score', role: 'cell' }, score);
  const node = element('tr', { role: 'row' },
    element('td', { class: 'rank', role: 'cell' }, rank),
    element('th', { class: 'player', role: 'rowheader', scope: 'row' }, name, note, move),
    scoreCell);
  return { node, rank, name, note, move, score, scoreCell, entry: null };
}

function fillRow(row, entry, leaderScore) {
  const before = row.entry;
  row.entry = entry;
  row.name.textContent = entry.displayName ?? entry.userId;
  row.name.title = entry.userId;
  row.rank.textContent = entry.rank ?? '–';
  row.node.dataset.rank = entry.rank ?? '';
  row.node.style.setProperty('--share', shareOf(entry.score, leaderScore));
  if (before?.score !== entry.score) {
    countTo(row.score, before?.score ?? null, entry.score);
    if (before) flash(row.scoreCell);
  }
  if (before?.rank && entry.rank && before.rank !== entry.rank) showMove(row.move, before.rank - entry.rank);
}

/** The length of a row's bar: 1 for the leader; scores at or below zero have none. */
function shareOf(score, leaderScore) {
  if (score === null || score <= 0 || leaderScore <= 0) return 0;
  return Math.min(1, score / leaderScore);
}

/** Moves a row only when it is elsewhere, since a move drops the focus and costs a layout. */
function placeAt(body, node, index) {
  const occupant = body.children[index] ?? null;
  if (occupant !== node) body.insertBefore(node, occupant);
}

function removeMissing(body, rows, entries) {
  const staying = new Set(entries.map((entry) => entry.userId));
  const leaving = [...rows].filter(([userId]) => !staying.has(userId));
  const offsets = leaving.map(([, row]) => topOf(row.node) - topOf(body));
  leaving.forEach(([userId, row], index) => {
    rows.delete(userId);
    leave(body, row.node, offsets[index]);
  });
}

/** Takes a row out of the flow at its last place, after all others, and fades it. */
function leave(body, node, offset) {
  if (body.getElementsByClassName('leaving').length >= LEAVING_MAX) {
    node.remove();
    return;
  }
  node.classList.add('leaving');
  node.setAttribute('aria-hidden', 'true');
  node.style.top = `${offset}px`;
  body.append(node);
  fadeAway(node);
}
