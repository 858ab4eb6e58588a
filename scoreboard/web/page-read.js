/* Plain reads of a board: for what has no stream, and to learn why there is none, since an EventSource does not say. */

const ANSWER_MAX_MS = 5000;
const REFUSALS = { 401: 'sign-in', 403: 'sign-in', 404: 'no-board', 422: 'no-board' };

/**
 * Reads the first places of a view, {board, window}. Returns {page}, {refusal} when the answer is final, or {} when the
 * server can't be reached or is busy, which is a reason to try again.
 */
export async function readPage(view, limit) {
  try {
    const signal = AbortSignal.timeout(ANSWER_MAX_MS);
    const query = new URLSearchParams({ limit, ...view });
    const answer = await fetch(`/api/leaderboard?${query}`, { cache: 'no-store', signal });
    if (answer.ok) return { page: await answer.json() };
    return answer.status in REFUSALS ? { refusal: REFUSALS[answer.status] } : {};
  } catch {
    return {};
  }
}
