/* Waiting before something is tried again. */

export function wait(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** How long to wait after so many failures. Half of it is random, so that many pages do not come back at once. */
export function backoff(failures, firstMs, longestMs) {
  const longest = Math.min(longestMs, firstMs * 2 ** failures);
  return longest * (0.5 + Math.random() / 2);
}

/** Waits that can be cut short: wake() ends the one under way. */
export function createNap() {
  let wake = () => {};
  return {
    for(milliseconds) {
      return new Promise((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    },
    wake() {
      wake();
    },
  };
}
