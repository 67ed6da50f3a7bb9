/** The caption below an answer: its action buttons, its model, its metrics. Every value is set as text. */
import { create, createButton, createSentence, isNarrow } from "./dom.js";

const IN_MENU = ["edit", "reproduce"]; // on a narrow page

/** Draws a caption; see Caption in render/messages.py. An answer's caption has no buttons yet. */
export default function drawCaption(caption) {
  const { kind, error, model, parts = [], short = parts, actions = [] } = caption;
  const element = create("div", `phi3-caption phi3-${kind}`);
  if (error) element.append(createSentence("phi3-error", {}, error));
  const line = create("p", { answer: "phi3-by", waiting: "phi3-wait" }[kind] ?? "phi3-note-line");
  if (model) {
    line.append(create("b", "phi3-model", {}, model), create("span", "phi3-full", {}, parts.length ? " · " : ""));
  }
  line.append(create("span", "phi3-full", {}, parts.join(" · ")));
  if (kind !== "answer") {
    element.append(line, ...actions.map(drawAction));
    return element;
  }
  line.append(create("span", "phi3-short", { "aria-hidden": "true" }, short.join(" · ")));
  line.title = [model, ...parts].filter(Boolean).join(" · "); // where it is truncated or shortened
  element.append(line);
  return element;
}

/** Draws the buttons of an answer's caption. `copyButton` is the message's, if it has text. */
export function drawToolbar({ actions = [], variants, more = [], link }, copyButton, { texts, createMore }) {
  const toolbar = create("div", "phi3-actions", { role: "toolbar", "aria-label": texts.answer_actions });
  if (copyButton) toolbar.append(copyButton);
  toolbar.append(...actions.map(drawAction));
  if (variants) toolbar.append(drawVariants(variants));
  const moved = () => isNarrow() ? actions.filter(({ name }) => IN_MENU.includes(name)) : [];
  const button = createMore(() => ({ actions: [...moved(), ...more], link }));
  if (!more.length && !link) button.classList.add("phi3-narrow");
  toolbar.append(button);
  return toolbar;
}

function drawVariants({ previous, next, position, count }) {
  const variants = create("span", "phi3-versions");
  const step = (action, symbol) => {
    if (!action) return symbol;
    const button = drawAction(action);
    button.textContent = symbol;
    button.setAttribute("aria-label", action.label);
    button.title = action.label;
    return button;
  };
  variants.append(step(previous, "‹"), ` ${position}/${count} `, step(next, "›"));
  return variants;
}

function drawAction({ name, value, label, icon, pressed }) {
  const button = createButton("phi3-action", label, icon, { name, value });
  if (pressed !== undefined) button.setAttribute("aria-pressed", String(pressed));
  return button;
}
