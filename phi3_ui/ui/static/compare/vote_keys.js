/**
 * Votes by a key, unless more is typed at once: a question may begin with a digit, and a vote is final.
 *
 * `press` votes by a key and says whether the key has a vote; `box` gets the typed text. Returns a function that takes a key
 * pressed outside of any field, and says whether it was one of these.
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
