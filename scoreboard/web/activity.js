/* The feed of recent scores, newest first, with a bound on what is kept. */

import { element, formatNumber } from './dom.js';
import { fadeIn } from './motion.js';

const SHOWN_MAX = 8;

/** nameOf(userId) says what to call a user. */
export function createActivity(list, emptyNote, nameOf) {
  return {
    /** Shows the newest of the updates given, in order of arrival. */
    add(updates) {
      for (const update of updates.slice(-SHOWN_MAX)) {
        const item = buildItem(update, nameOf(update.userId));
        list.prepend(item);
        fadeIn(item);
      }
      while (list.children.length > SHOWN_MAX) list.lastElementChild.remove();
      showNote();
    },
    /** Says the names as they are now: some come later than the scores. */
    rename() {
      for (const name of list.querySelectorAll('.name')) name.textContent = nameOf(name.title);
    },
    /** Forgets a user who is hidden now. */
    forget(userId) {
      for (const name of list.querySelectorAll('.name')) if (name.title === userId) name.parentElement.remove();
      showNote();
    },
    clear() {
      list.replaceChildren();
      showNote();
    },
  };

  function showNote() {
    emptyNote.hidden = list.children.length > 0;
  }
}

/** The newest SHOWN_MAX updates are all that can be shown, so no more need to be kept. */
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

/** Points with their sign, as the page writes them everywhere. */
export function formatPoints(points) {
  return points < 0 ? `−${formatNumber(-points)}` : `+${formatNumber(points)}`;
}
