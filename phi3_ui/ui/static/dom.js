/** Creates an element; attributes that are null, undefined or false are left out, true becomes an empty value. */
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

/** Creates a button with an icon, a name for screen readers, and a tooltip. */
export function createIconButton(icon, label, attributes = {}) {
  return createElement(
    "button",
    "phi3-icon",
    { type: "button", title: label, "aria-label": label, ...attributes },
    icon,
  );
}

/** Sets the text of a Gradio text field as if it was typed. */
export function typeInto(field, text) {
  field.value = text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

/** Fills in the values of a text with placeholders such as `{name}`. */
export function fillIn(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
