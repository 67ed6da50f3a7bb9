/** Elements of the chat. */
import drawIcon from "./icons.js";

/** Creates an element; `text` is never parsed as HTML. */
export function create(tag, classes = "", attributes = {}, text = "") {
  const element = document.createElement(tag);
  element.className = classes;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

/** Creates a paragraph from a message in which commands are enclosed in backticks. */
export function createSentence(classes, attributes, text) {
  const sentence = create("p", classes, attributes);
  sentence.append(...text.split("`").map((part, at) => at % 2 ? create("code", "", { dir: "ltr" }, part) : part));
  return sentence;
}

/** Creates a button of a message. It is not a tab stop of its own: see rove.js. */
export function createButton(classes, label, icon, attributes = {}) {
  const button = create("button", classes, { type: "button", tabindex: "-1", ...attributes }, icon ? "" : label);
  if (!icon) return button;
  button.classList.add("phi3-icon");
  button.append(drawIcon(icon));
  setLabel(button, label);
  return button;
}

export function setLabel(button, label) {
  button.title = label;
  button.setAttribute("aria-label", label);
}

/** Whether the page is narrow: some actions move into the menu. */
export const isNarrow = () => globalThis.matchMedia("(width < 600px)").matches;
