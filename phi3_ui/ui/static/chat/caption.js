/** What stands below an answer: its action buttons, who gave it, its metrics. Every value is set as text. */
import drawIcon from "./icons.js";

/** The element of a caption; see Caption in render/messages.py. `copyButton` is the message's, if it has text. */
export default function drawCaption({ kind, error, model, parts = [], variants, actions = [], link }, copyButton) {
  const caption = create("div", `phi3-caption phi3-${kind}`);
  if (error) caption.append(create("p", "phi3-error", error));
  const row = create("div", "phi3-actions");
  if (copyButton) row.append(copyButton);
  row.append(...actions.map(drawAction));
  if (variants) row.append(drawVariants(variants));
  if (link) row.append(drawLink(link));
  const line = create("p", kind === "waiting" ? "phi3-wait" : kind === "cut" ? "phi3-by phi3-cut" : "phi3-by");
  if (model) line.append(create("b", "", model));
  line.append((model && parts.length ? " · " : "") + parts.join(" · "));
  if (kind === "answer") caption.append(row, line);
  else caption.append(line, row);
  return caption;
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
  const button = Object.assign(create("button", "phi3-action", icon ? "" : label), { type: "button", name, value });
  if (icon) {
    button.classList.add("phi3-icon");
    button.append(drawIcon(icon));
    button.title = label;
    button.setAttribute("aria-label", label);
  }
  if (pressed !== undefined) button.setAttribute("aria-pressed", String(pressed));
  return button;
}

function drawLink({ url, label, title }) {
  return Object.assign(create("a", "", label), { href: url, title, target: "_blank", rel: "noopener" });
}

function create(tag, classes, text = "") {
  const element = document.createElement(tag);
  element.className = classes;
  element.textContent = text;
  return element;
}
