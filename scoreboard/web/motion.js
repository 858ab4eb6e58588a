/*
 * Movement on the board: rows that glide, scores that count up, flashes.
 * Readers who prefer reduced motion get the end state at once.
 */

import { formatNumber } from './dom.js';

const GLIDE_MS = 550;
const COUNT_MS = 600;
const FADE_MS = 280;
const FLASH_MS = 900;
const MOVE_SHOWN_MS = 3500;
const EASE_OUT = 'cubic-bezier(0.22, 1, 0.36, 1)';

const reduced = matchMedia('(prefers-reduced-motion: reduce)');
const glides = new WeakMap();
const counts = new WeakMap();

export function topOf(node) {
  return node.getBoundingClientRect().top;
}

/**
 * Glides a row from where it was seen before the list was reordered. Where it
 * was seen includes a glide still under way, so an interrupted one goes on
 * smoothly from there.
 */
export function glideFrom(node, seenTop) {
  glides.get(node)?.cancel();
  const distance = seenTop - topOf(node);
  if (reduced.matches || Math.abs(distance) < 1) return;
  const frames = [{ transform: `translateY(${distance}px)` }, { transform: 'none' }];
  glides.set(node, node.animate(frames, { duration: GLIDE_MS, easing: EASE_OUT }));
}

export function fadeIn(node) {
  if (reduced.matches) return;
  const frames = [{ opacity: 0, transform: 'translateY(8px)' }, { opacity: 1, transform: 'none' }];
  node.animate(frames, { duration: FADE_MS, easing: EASE_OUT });
}

/** Fades a node out and takes it from the document. */
export function fadeAway(node) {
  if (reduced.matches) {
    node.remove();
    return;
  }
  const fade = node.animate([{ opacity: 1 }, { opacity: 0 }], { duration: FADE_MS, fill: 'forwards' });
  fade.onfinish = () => node.remove();
}

/** Lights the ::after layer of a node, whose colour the style sheet sets. */
export function flash(node) {
  if (reduced.matches) return;
  node.animate([{ opacity: 1 }, { opacity: 0 }], { duration: FLASH_MS, pseudoElement: '::after' });
}

/** Shows a mark of a rank change for a while; a fade is no motion, so it always runs. */
export function showMove(node, placesUp) {
  node.textContent = `${placesUp > 0 ? '▲' : '▼'}${formatNumber(Math.abs(placesUp))}`;
  node.classList.toggle('up', placesUp > 0);
  for (const running of node.getAnimations()) running.cancel();
  const frames = [{ opacity: 1 }, { opacity: 1, offset: 0.8 }, { opacity: 0 }];
  node.animate(frames, { duration: MOVE_SHOWN_MS, fill: 'forwards' });
}

/** Counts the number in a node from one value to another; the last call wins. */
export function countTo(node, from, to) {
  const run = {};
  counts.set(node, run);
  if (reduced.matches || from === null || to === null || from === to) {
    node.textContent = to === null ? '–' : formatNumber(to);
    return;
  }
  const started = performance.now();
  const step = (now) => {
    if (counts.get(node) !== run) return;
    const passed = Math.min(1, Math.max(0, (now - started) / COUNT_MS));
    const eased = 1 - (1 - passed) ** 3;
    node.textContent = formatNumber(passed === 1 ? to : Math.round(from + (to - from) * eased));
    if (passed < 1) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}
