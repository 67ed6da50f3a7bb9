/** Draws a question: the typed text as plain text, and each attached file folded above it. */
import { splitFiles } from "../attached_files.js";
import { createElement } from "../dom.js";
import drawIcon from "./icons.js";

export default function drawQuestion(element, content) {
  const { files, rest } = splitFiles(content);
  if (!files.length) {
    element.textContent = content;
    return;
  }
  element.replaceChildren(
    ...files.map(drawFile),
    document.createTextNode(rest),
  );
}

/** Shows the token count of each file of a drawn question, if known; open folds stay open. */
export function labelFiles(element, labels = []) {
  element.querySelectorAll(".phi3-sent-file small").forEach((small, index) => small.textContent = labels[index] ?? "");
}

/** Draws a folded file. */
export function drawFile({ name, text }) {
  const summary = createElement(
    "summary",
    "",
    {},
    drawIcon("file"),
    createElement("span", "", { dir: "auto" }, name),
    createElement("small"),
  );
  const details = createElement("details", "phi3-file phi3-sent-file", {}, summary);
  details.addEventListener("toggle", () => {
    details.querySelector("pre")?.remove();
    if (details.open) details.append(createElement("pre", "", { tabindex: 0, dir: "auto" }, text));
  });
  return details;
}
