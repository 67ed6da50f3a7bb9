/** What is said below an answer: who gave it, its metrics, its action buttons. Every value is set as text. */

/** The element of a caption; see Caption in render/messages.py. */
export default function drawCaption({ kind, error, model, parts = [], variants, actions = [], link }) {
  const caption = create("div", "phi3-caption");
  if (error) caption.append(create("p", "phi3-error", error));
  const line = create("p", kind === "waiting" ? "phi3-wait" : kind === "cut" ? "phi3-by phi3-cut" : "phi3-by");
  if (model) line.append(create("b", "", model));
  line.append((model && parts.length ? " · " : "") + parts.join(" · "));
  caption.append(line);
  if (variants || actions.length || link) {
    const row = create("p", "phi3-actions");
    if (variants) row.append(drawVariants(variants));
    row.append(...actions.map(drawAction));
    if (link) row.append(drawLink(link));
    caption.append(row);
  }
  return caption;
}

function drawVariants({ previous, next, position, count }) {
  const variants = create("span", "phi3-versions");
  const step = (action, symbol) => action ? drawAction({ ...action, label: symbol }) : symbol;
  variants.append(step(previous, "‹"), ` ${position}/${count} `, step(next, "›"));
  return variants;
}

function drawAction({ name, value, label, title }) {
  const button = create("button", "phi3-action", label);
  return Object.assign(button, { name, value, title: title ?? "" });
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
