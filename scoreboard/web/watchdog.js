/*
 * Tells a dead connection from a quiet board. The server sends an event every ten
 * seconds, a heartbeat if there is nothing else; a server that hangs, or a network
 * that swallows everything, says nothing and closes nothing. So silence is the
 * only sign of it.
 */

export const SILENCE_MAX_MS = 25000;
const CHECK_MS = 1000;

/** Calls onSilence(heardAt), the time of the last sign of life, once nothing was heard for SILENCE_MAX_MS. */
export function createWatchdog(onSilence) {
  let heardAt = 0;
  let heardSteady = 0;
  let timer = null;

  /* The steady clock may stand still while a computer sleeps, the other one may be set back: the longer time counts. */
  function silence() {
    return Math.max(Date.now() - heardAt, performance.now() - heardSteady);
  }

  function check() {
    if (silence() < SILENCE_MAX_MS) return;
    stop();
    onSilence(heardAt);
  }

  function stop() {
    clearInterval(timer);
    timer = null;
  }

  return {
    /** There was a sign of life; from now on the next one is awaited. */
    heard() {
      heardAt = Date.now();
      heardSteady = performance.now();
      timer ??= setInterval(check, CHECK_MS);
    },
    stop,
  };
}
