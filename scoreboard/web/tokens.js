/* Sessions of demo users, from a server that has a demo. */

const ANSWER_MAX_MS = 10000;
const DEMO_USER = /^demo-[a-z0-9-]{1,32}$/;

/** Whether the page's server has a demo; it says so in the page. */
export function hasDemo() {
  return document.documentElement.dataset.demo === 'on';
}

export function isDemoUser(userId) {
  return DEMO_USER.test(userId ?? '');
}

/**
 * Signs in as a demo user, null for a new one. Returns {userId, token, board, actions}, or {status} when the server
 * refused, 0 when it gave no answer.
 */
export async function signIn(userId) {
  const query = userId === null ? '' : `?${new URLSearchParams({ user: userId })}`;
  try {
    const answer = await fetch(`/demo${query}`, { cache: 'no-store', signal: AbortSignal.timeout(ANSWER_MAX_MS) });
    return answer.ok ? await answer.json() : { status: answer.status };
  } catch {
    return { status: 0 };
  }
}

/** Remembers sessions by user. of(userId) gives what signIn does. */
export function createTokens() {
  const sessions = new Map();
  return {
    keep(session) {
      sessions.set(session.userId, session);
    },
    async of(userId) {
      if (!sessions.has(userId)) {
        const session = await signIn(userId);
        if (session.token === undefined) return session;
        sessions.set(userId, session);
      }
      return sessions.get(userId);
    },
    /** A token that the server does not take any more. */
    forget(userId, token) {
      if (sessions.get(userId)?.token === token) sessions.delete(userId);
    },
  };
}

/** crypto.randomUUID is missing on plain http outside of localhost; random bytes are not. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
