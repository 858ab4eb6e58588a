/*
 * What ids may look like, as the server has it (scoreboard/names.py), so that the page
 * asks for no id that the server refuses. The server has the last word: a browser may
 * know characters of another version of Unicode.
 */

const USER_ID_LENGTH_MAX = 64;
const BOARD_ID = /^[A-Za-z0-9._-]{1,64}$/;
/* In a path these mean another folder. */
const STEPS = new Set(['.', '..']);

const BLACK_FLAG = '\u{1F3F4}';
const FLAGS = /\u{1F3F4}[\u{E0030}-\u{E0039}\u{E0061}-\u{E007A}]{3,7}\u{E007F}/gu;
const EMOJI = '\\p{Extended_Pictographic}\\p{Regional_Indicator}\\p{Emoji_Modifier}';
const JOINERS = new RegExp(`(?<=[\\p{L}\\p{M}${EMOJI}])[\\u200C\\u200D](?=[\\p{L}${EMOJI}])`, 'gu');
const CONTROL = /[\p{Cc}\p{Cs}]/u;
const UNSEEN = /[\p{Cf}\p{Zl}\p{Zp}]/u;
/* Fillers of Hangul and the empty Braille pattern are letters and symbols that leave a blank. */
const BLANKS = /[\u115F\u1160\u3164\uFFA0\u2800]/g;
const SEEN = new RegExp(`[\\p{L}\\p{N}\\p{S}\\p{P}${EMOJI}]`, 'u');

/** Text in its one spelling, Unicode NFC, in which the server answers. */
export function spell(text) {
  return text.normalize('NFC');
}

/** Says what is wrong with a user id in NFC, or returns an empty string. */
export function userIdProblem(userId) {
  const length = [...userId].length;
  if (length > USER_ID_LENGTH_MAX) return `A user id has at most ${USER_ID_LENGTH_MAX} characters; this has ${length}.`;
  if (STEPS.has(userId)) return `“${userId}” can’t be a user id: in an address it means another folder.`;
  const text = userId.replace(FLAGS, BLACK_FLAG).replace(JOINERS, '');
  const control = CONTROL.exec(text);
  if (control !== null) return `A user id has no control characters; this has ${nameOf(control[0])}.`;
  const unseen = UNSEEN.exec(text);
  if (unseen !== null) return `A user id has no character that can’t be seen; this has ${nameOf(unseen[0])}.`;
  if (!SEEN.test(text.replace(BLANKS, ''))) return 'A user id has at least one character that can be seen.';
  return '';
}

/** Whether a board could have this id. */
export function isBoardId(board) {
  return BOARD_ID.test(board) && !STEPS.has(board);
}

function nameOf(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
}
