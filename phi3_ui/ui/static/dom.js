/** An element with these classes, attributes and children; attributes that are null or false are left out, true is empty. */
export function createElement(tag, classes = "", attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

/** A button, named for people who see no icon, with a tooltip for those who do. */
export function createIconButton(icon, label, attributes = {}) {
  return createElement(
    "button",
    "phi3-icon",
    { type: "button", title: label, "aria-label": label, ...attributes },
    icon,
  );
}

/** Sets the text of a Gradio text field as typing would. */
export function typeInto(field, text) {
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

/** A text with `{name}` in place of its values. */
export function fillIn(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
