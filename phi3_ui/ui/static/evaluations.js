/**
 * Sends what is done in the view of evaluations: a form, button or select with `data-do` triggers `click` with that name and
 * the fields of the form, each a list of texts, or the value. Files are read here, as text.
 */
import readText, { MAX_CHARACTERS, RefusedFile } from "./composer/read_text.js";
import { createElement, fillIn } from "./dom.js";

export default function sendForms({ element, trigger, texts }) {
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
      trigger("click", { name: form.dataset.do, ...await readFields(form) });
    } catch (error) {
      if (!(error instanceof RefusedFile)) throw error;
      const count = MAX_CHARACTERS.toLocaleString(document.documentElement.lang || navigator.language);
      const sentence = fillIn(texts[error.message], { name: error.file, count });
      form.append(createElement("p", "phi3-error", { role: "alert" }, sentence));
    }
  });
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
