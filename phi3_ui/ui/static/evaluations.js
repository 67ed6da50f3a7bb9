/**
 * Sends the actions of the evaluations view: a form, button or select with `data-do` triggers `click` with that name and the
 * fields of the form, each a list of strings, or the value. Files are read here, as text.
 *
 * Gradio morphs the existing elements into the new ones, and a field keeps what was typed into it, which would then be beside
 * another question. So a field is reset to the server's value if it now stands for another one, or was sent. If the focused
 * element is gone, such as a button that started something, the heading gets the focus.
 */
import readText, { MAX_CHARACTERS, RefusedFile } from "./composer/read_text.js";
import { createElement, fillIn } from "./dom.js";
import LOCALE from "./locale.js";

export default function sendForms({ element, trigger, watch, texts }) {
  const owners = new WeakMap(); // identity of what each field edits
  let sent = null; // the form that the server is answering
  let isUsed = false; // whether the last focus or press was in this view

  element.addEventListener("click", ({ target }) => {
    const button = target.closest("button[data-do]");
    if (button) trigger("click", { name: button.dataset.do, value: [button.value] });
  });
  element.addEventListener("change", ({ target }) => {
    if (target.matches("select[data-do]")) trigger("click", { name: target.dataset.do, value: [target.value] });
  });
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    form.querySelector("[role=alert]")?.remove();
    try {
      const fields = await readFields(form);
      sent = form;
      trigger("click", { name: form.dataset.do, ...fields });
    } catch (error) {
      if (!(error instanceof RefusedFile)) throw error;
      const count = MAX_CHARACTERS.toLocaleString(LOCALE);
      const sentence = fillIn(texts[error.message.replace("attach", "eval.file")], { name: error.file, count });
      form.append(createElement("p", "phi3-error", { role: "alert" }, sentence));
    }
  });

  const noteUse = ({ target }) => {
    isUsed = element.contains(target.closest?.("button, a, input, select, textarea, summary, h2"));
  };
  for (const name of ["focusin", "pointerdown"]) document.addEventListener(name, noteUse);

  const settle = () => {
    const heading = element.querySelector("h2");
    const title = heading?.textContent ?? "";
    if (isUsed && document.activeElement === document.body) heading?.focus();
    for (const field of element.querySelectorAll("input, textarea, select")) {
      const { form, name } = field;
      const owner = [title, form?.dataset.do, form?.querySelector("[name=key]")?.value, name].join("\n");
      if (owners.get(field) !== owner || (sent && form === sent)) reset(field);
      owners.set(field, owner);
    }
    sent = null;
  };
  watch("value", settle);
  settle();
}

/** Resets a field to the drawn value. */
function reset(field) {
  if (field.type === "checkbox") field.checked = field.defaultChecked;
  else if (field.type === "file") field.value = "";
  else if (field.tagName !== "SELECT") field.value = field.defaultValue;
  else {
    const drawn = [...field.options].findIndex(({ defaultSelected }) => defaultSelected);
    field.selectedIndex = Math.max(drawn, 0);
  }
}

async function readFields(form) {
  const fields = {};
  for (const [name, value] of new FormData(form)) {
    if (!(value instanceof File)) (fields[name] ??= []).push(value);
    else if (value.name) fields[name] = [value.name, await read(value)];
  }
  return fields;
}

async function read(file) {
  try {
    return await readText(file);
  } catch (error) {
    error.file = file.name;
    throw error;
  }
}
