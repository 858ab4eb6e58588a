/*
 * Small helpers that the pages share. Text reaches the document as text nodes
 * only, never as markup, so that no user id can become an element.
 */

const NUMBER = new Intl.NumberFormat('en');

export function byId(id) {
  return document.getElementById(id);
}

/** Makes an element; strings among the children become text nodes. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function formatNumber(value) {
  return NUMBER.format(value);
}
