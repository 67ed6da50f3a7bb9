/** Draws a question: what was typed as plain text, and each attached file folded above it. */
import { splitFiles } from "../attached_files.js";
import { createElement } from "../dom.js";
import drawIcon from "./icons.js";

/** `labels` say how long each file is, where that is known. */
export default function drawQuestion(element, content, labels = []) {
  const { files, rest } = splitFiles(content);
  if (!files.length) {
    element.textContent = content;
    return;
  }
  element.replaceChildren(
    ...files.map((file, index) => drawFile(file, labels[index])),
    document.createTextNode(rest),
  );
}

/** A file, folded. */
export function drawFile({ name, text }, label = "") {
  const summary = createElement("summary", "", {}, drawIcon("file"), createElement("span", "", { dir: "auto" }, name));
  if (label) summary.append(createElement("small", "", {}, label));
  const details = createElement("details", "phi3-file phi3-sent-file", {}, summary);
  details.addEventListener("toggle", () => {
    details.querySelector("pre")?.remove();
    if (details.open) details.append(createElement("pre", "", { tabindex: 0, dir: "auto" }, text));
  });
  return details;
}
