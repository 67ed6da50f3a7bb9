/** The buttons to vote on a round: a letter for each answer, tie and bad; for the newest round with their keys, from 1. */
import { createElement } from "../dom.js";

export const LETTERS = "ABCD";

/** Returns the node, the first button, `hasVote`, which tells whether a key has a vote, and `press`, which votes by key. */
export default function createVoteBar(texts, { id, choices, sides }, onVote, hasKeys) {
  const reason = createElement("input", "", {
    type: "text",
    maxlength: "2000",
    placeholder: texts["compare.reason"],
    "aria-label": texts["compare.reason"],
  });
  let isSent = false;
  const choose = (choice) => {
    if (isSent) return;
    isSent = true;
    setTimeout(() => isSent = false, 2000); // a rejected vote can be repeated
    onVote(id, choice, reason.value);
  };
  const name = (choice) => {
    if (choice === "both_bad") return texts[sides.length > 2 ? "compare.vote.all_bad" : "compare.vote.both_bad"];
    if (choice === "tie") return texts["compare.vote.tie"];
    return texts["compare.vote"].replace("{letter}", LETTERS[choice]);
  };
  const buttons = choices.map((choice, index) => {
    const key = createElement("kbd", "", { "aria-hidden": "true" }, String(index + 1));
    const attributes = { type: "button", value: choice, "aria-keyshortcuts": hasKeys ? String(index + 1) : null };
    const button = createElement("button", "phi3-ghost", attributes, name(choice), ...hasKeys ? [key] : []);
    button.addEventListener("click", () => choose(choice));
    return button;
  });
  const node = createElement(
    "div",
    "vote",
    { role: "group", "aria-label": texts["compare.choices"] },
    ...buttons,
    reason,
  );
  const hasVote = (key) => /^[1-9]$/.test(key) && Number(key) <= choices.length;
  const press = (key) => hasVote(key) && choose(choices[Number(key) - 1]);
  return { node, first: buttons[0], hasVote, press, round: id };
}
