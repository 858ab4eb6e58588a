/*
 * Descriptions are CommonMark. Only what they use is drawn: paragraphs, lists
 * with hyphens, `code` and **strong**. Anything else stays readable as it was written.
 */

import { element } from './dom.js';

export function prose(text) {
  const blocks = text.trim().split(/\n\s*\n/).map(block);
  return element('div', { class: 'prose' }, ...blocks);
}

function block(text) {
  const lines = text.split('\n').map((line) => line.trim());
  if (!lines.every((line) => line.startsWith('- '))) return element('p', {}, ...spans(lines.join(' ')));
  return element('ul', {}, ...lines.map((line) => element('li', {}, ...spans(line.slice(2)))));
}

function spans(text) {
  return text.split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (/^`.+`$/.test(part)) return element('code', {}, part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return element('strong', {}, part.slice(2, -2));
    return part;
  });
}
