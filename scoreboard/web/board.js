/* What frames say of a board: its top ten and how many players it has. */

const PLAYERS_BY_CHANGE = { hidden: -1, shown: 1 };

/** Returns {top, total, take(type, data)}; `top` is the last `leaderboard` frame, null before there is one. */
export function createBoard() {
  let top = null;
  let total = null;

  const takeFrame = {
    leaderboard(frame) {
      top = frame;
      total = frame.total;
    },
    /** A first score below the top ten brings no `leaderboard` frame, yet adds a player. */
    'score-updated'({ rank, previousRank, seq }) {
      if (previousRank === null && rank !== null) count(seq, 1);
    },
    'user-updated'({ change, seq }) {
      count(seq, PLAYERS_BY_CHANGE[change] ?? 0);
    },
    /** What was known does not hold any more; a snapshot follows. */
    reset() {
      top = null;
    },
  };

  function count(seq, players) {
    if (top !== null && seq > top.seq) total += players;
  }

  return {
    get top() { return top; },
    get total() { return total; },
    take(type, data) {
      takeFrame[type]?.(data);
    },
  };
}
