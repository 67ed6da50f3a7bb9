/**
 * Votes by key, unless more is typed immediately: a question may begin with a digit, and a vote is final.
 *
 * `hasVote` tells whether a key has a vote, `press` votes by key, and `box` gets the typed text. Returns a function that handles
 * a key pressed outside of any field, and returns whether it has handled it.
 */
const TYPED_WITHIN = 600; // milliseconds

export default function createVoteKeys(hasVote, press, box) {
  let digit = "";
  let timer;
  return (key) => {
    if (digit && key.length === 1) {
      clearTimeout(timer);
      box.value += digit + key;
      digit = "";
      box.focus();
      box.dispatchEvent(new Event("input", { bubbles: true }));
      return true;
    }
    if (!hasVote(key)) return false;
    digit = key;
    timer = setTimeout(() => {
      digit = "";
      press(key);
    }, TYPED_WITHIN);
    return true;
  };
}
