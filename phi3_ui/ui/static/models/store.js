/**
 * What the modules of this folder tell one another: the selected model's status, and the job that adds a model.
 * Gradio's hidden components hold what the server gets.
 */
const listeners = new Set();
export const state = { status: null, job: null };

/** Set some of the state, and tell everyone who wants to know. */
export function update(changes) {
  Object.assign(state, changes);
  for (const listener of listeners) listener(state);
}

/** Call `listener` now and after each change. */
export function subscribe(listener) {
  listeners.add(listener);
  listener(state);
}

const field = (id) => document.querySelector(`#${id} input, #${id} textarea`);

/** The value of a hidden text field. */
export const getField = (id) => field(id)?.value ?? "";

/** Set a hidden text field as if it was typed: its events run, and later ones have the value as their input. */
export function setField(id, value) {
  field(id).value = value;
  field(id).dispatchEvent(new Event("input", { bubbles: true }));
}

/** A value of a component without Svelte's proxies. */
export const plain = (value) => value && JSON.parse(JSON.stringify(value));

/** An element with attributes, or properties where an attribute's name is one, and children. */
export function create(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children.filter((child) => child !== null && child !== undefined),
  );
  return element;
}

/** A chip: `{ text, kind }`. */
export const createChip = ({ text, kind }) => create("span", { class: `phi3-chip ${kind}` }, text);
