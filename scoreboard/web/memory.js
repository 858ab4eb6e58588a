/*
 * What this browser remembers from one visit to the next. Storage throws where the
 * browser's settings forbid it; the page then just does not remember.
 */

/** The text kept under a key, or null. */
export function recall(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Keeps a text under a key; null forgets it. */
export function remember(key, text) {
  try {
    if (text === null) localStorage.removeItem(key);
    else localStorage.setItem(key, text);
  } catch {
    // Nothing depends on it but later visits.
  }
}

/** All keys that begin with a prefix. */
export function recallKeys(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}
