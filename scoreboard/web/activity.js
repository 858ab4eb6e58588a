/* The feed of recent scores, newest first, with a bound on what is kept. */

import { element, formatNumber } from './dom.js';
import { fadeIn } from './motion.js';

const SHOWN_MAX = 8;

/** Returns a function that shows the newest of the updates it is given, in order of arrival. */
export function createActivity(list, emptyNote) {
  return function render(updates, nameOf) {
    if (updates.length === 0) return;
    emptyNote.hidden = true;
    for (const update of updates.slice(-SHOWN_MAX)) {
      const item = buildItem(update, nameOf(update.userId));
      list.prepend(item);
      fadeIn(item);
    }
    while (list.children.length > SHOWN_MAX) list.lastElementChild.remove();
  };
}

/** The newest SHOWN_MAX updates are all that a render can show, so no more need to be kept. */
export function keepRecent(updates, update) {
  updates.push(update);
  if (updates.length > SHOWN_MAX) updates.shift();
}

function buildItem(update, name) {
  const gain = element('span', { class: update.points < 0 ? 'gain loss' : 'gain' }, formatPoints(update.points));
  const place = update.rank === null ? '' : `#${formatNumber(update.rank)}`;
  return element('li', {},
    element('bdi', { class: 'name clip', title: update.userId }, name),
    element('span', { class: 'action clip' }, update.actionId ?? ''),
    gain,
    element('span', { class: 'place' }, place));
}

function formatPoints(points) {
  return points < 0 ? `−${formatNumber(-points)}` : `+${formatNumber(points)}`;
}
