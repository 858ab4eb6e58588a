/*
 * Submitting scores from the page, with tokens that a server running its
 * embedded sample hands out. A submission is repeated with the same
 * Idempotency-Key, so that it counts once even when an answer was lost.
 */

import { wait } from './dom.js';

const TRIES_MAX = 4;
const TRY_TIMEOUT_MS = 10000;
const RETRY_FIRST_MS = 400;
const RETRY_MAX_MS = 8000;
/* A gateway in front may answer 502 or 504 where the server itself would say 503. */
const RETRIED = new Set([502, 503, 504]);

/** A refused submission; its message is fit to be shown. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Returns a session {userId, token, board, actions}, or null when the server has no demo. */
export async function openDemoSession(userId) {
  const query = userId === null ? '' : `?${new URLSearchParams({ user: userId })}`;
  try {
    const answer = await fetch(`/demo${query}`, { cache: 'no-store' });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/**
 * Records one action of the session's player and returns the server's answer.
 * Throws Refused when the server says no or stays out of reach.
 */
export async function submitScore(session, actionId) {
  const key = newKey();
  let renewed = false;
  let last = null;
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    if (tries > 0) await wait(retryDelay(tries, last));
    last = await postOnce(session, actionId, key);
    if (last?.ok) return last.json();
    if (last?.status === 401 && !renewed) {
      renewed = true;
      await renewToken(session);
    } else if (last !== null && !RETRIED.has(last.status)) {
      break;
    }
  }
  throw await refusalOf(last);
}

/** Returns the answer, or null when there was none and nobody knows whether the score counted. */
async function postOnce({ token, board }, actionId, key) {
  try {
    return await fetch('/api/scores', {
      method: 'POST',
      headers: {
        Authorization: `Bearer ${token}`,
        'Content-Type': 'application/json',
        'Idempotency-Key': key,
      },
      body: JSON.stringify({ actionId, board }),
      signal: AbortSignal.timeout(TRY_TIMEOUT_MS),
    });
  } catch {
    return null;
  }
}

async function renewToken(session) {
  const fresh = await openDemoSession(session.userId);
  if (fresh) session.token = fresh.token;
}

async function refusalOf(answer) {
  if (answer === null) return new Refused('The server cannot be reached.', 0);
  const problem = await answer.json().catch(() => ({}));
  const detail = problem.detail ?? problem.title ?? `The server answered ${answer.status}.`;
  const seconds = retryAfterSeconds(answer);
  const advice = seconds === null ? '' : ` – try again in ${seconds} s`;
  return new Refused(detail + advice, answer.status);
}

/** Retry-After may also be a date; only the server's own form, whole seconds, is read. */
function retryAfterSeconds(answer) {
  const value = answer.headers.get('Retry-After') ?? '';
  return /^\d+$/.test(value) ? Number(value) : null;
}

function retryDelay(tries, answer) {
  const asked = answer === null ? null : retryAfterSeconds(answer);
  const backoff = RETRY_FIRST_MS * 2 ** (tries - 1);
  return Math.min(RETRY_MAX_MS, asked === null ? backoff : asked * 1000) * (1 + Math.random() / 4);
}

/** crypto.randomUUID is missing on plain http outside of localhost; random bytes are not. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
