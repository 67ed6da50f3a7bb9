/**
 * State shared by the modules of this folder: the selected model's status, and the job that adds a model.
 * Gradio's hidden components hold what is sent to the server.
 */
const listeners = new Set();
export const state = { status: null, job: null };

/** Changes part of the state and notifies the subscribers. */
export function update(changes) {
  Object.assign(state, changes);
  for (const listener of listeners) listener(state);
}

/** Calls `listener` now and after each change. */
export function subscribe(listener) {
  listeners.add(listener);
  listener(state);
}

const field = (id) => document.querySelector(`#${id} input, #${id} textarea`);

/** Returns the value of a hidden text field. */
export const getField = (id) => field(id)?.value ?? "";

/** Sets a hidden text field as if it was typed: its events run, and later events get the value as their input. */
export function setField(id, value) {
  field(id).value = value;
  field(id).dispatchEvent(new Event("input", { bubbles: true }));
}

/** Returns a component's value without Svelte's proxies. */
export const plain = (value) => value && JSON.parse(JSON.stringify(value));

/** Creates an element with attributes and children; attributes that are false, null or undefined are left out. */
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

/** Creates a chip from `{ text, kind }`. */
export const createChip = ({ text, kind }) => create("span", { class: `phi3-chip ${kind}` }, text);
