/*
 * One try to record a submission, and what its outcome means: it counted, it did
 * not, or nobody knows yet. A submission keeps its Idempotency-Key over all tries,
 * so it counts once even where an answer was lost.
 */

const TRY_MAX_MS = 10000;
/* These are judged before the server looks whether the key was used. */
const BEFORE_THE_KEY = new Set([401, 403, 404]);

/**
 * Tries to record an item, {key, userId, board, actionId, isDoubtful}; isDoubtful is set once a try may have counted
 * though no answer said so. Returns {is: 'counted', receipt}, {is: 'refused', message}, {is: 'unknown', message}, or
 * {is: 'later', afterMs} when it is to be tried again.
 */
export async function tryOnce(item, tokens) {
  const session = await tokens.of(item.userId);
  if (session.token === undefined) return refuseToken(item, session);
  const answer = await post(item, session.token);
  if (answer === null || answer.status >= 500 || answer.status === 408) {
    item.isDoubtful = true;
    return { is: 'later', afterMs: retryAfterMs(answer) };
  }
  if (answer.ok) return { is: 'counted', receipt: await answer.json() };
  const problem = await answer.json().catch(() => ({}));
  if (answer.status === 401 && !item.isRenewed) {
    item.isRenewed = true;
    tokens.forget(item.userId, session.token);
    return { is: 'later', afterMs: 0 };
  }
  if (answer.status === 429 && item.isDoubtful) return { is: 'later', afterMs: retryAfterMs(answer) };
  return refuse(item, answer.status, describe(answer, problem));
}

/** The server signs nobody in, or could not be asked. */
function refuseToken(item, { status }) {
  if (status === 0 || status >= 500) return { is: 'later', afterMs: 0 };
  return refuse(item, 401, 'The token has expired, and the server gives no new one.');
}

function refuse(item, status, message) {
  const isUnknown = item.isDoubtful && BEFORE_THE_KEY.has(status);
  return { is: isUnknown ? 'unknown' : 'refused', message };
}

/** Returns the answer, or null when there was none. */
async function post({ key, board, actionId }, token) {
  try {
    const answer = await fetch('/api/scores', {
      method: 'POST',
      headers: {
        Authorization: `Bearer ${token}`,
        'Content-Type': 'application/json',
        'Idempotency-Key': key,
      },
      body: JSON.stringify({ actionId, board }),
      signal: AbortSignal.timeout(TRY_MAX_MS),
    });
    // An answer that breaks off is none.
    return new Response(await answer.blob(), { status: answer.status, headers: answer.headers });
  } catch {
    return null;
  }
}

function describe(answer, { detail, title }) {
  const milliseconds = retryAfterMs(answer);
  const advice = milliseconds === 0 ? '' : ` – try again in ${milliseconds / 1000} s`;
  return (detail ?? title ?? `the server answered ${answer.status}`) + advice;
}

/** Retry-After may also be a date; only the server's own form, whole seconds, is read. */
function retryAfterMs(answer) {
  const value = answer?.headers.get('Retry-After') ?? '';
  return /^\d+$/.test(value) ? Number(value) * 1000 : 0;
}
