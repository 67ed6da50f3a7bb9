/** A question is edited in its own bubble; the message box keeps its draft. */
import { create } from "./dom.js";

/** The form in place of a question's text. Ends with `onEnd`; a form that is sent stays until the new version is shown. */
export default function createEditor(content, texts, onSend, onEnd) {
  const form = create("form", "phi3-edit");
  const field = create("textarea", "", { "aria-label": texts.edit_field, dir: "auto", rows: "1" });
  const cancel = create("button", "phi3-cancel", { type: "button" }, texts.cancel);
  const save = create("button", "phi3-save", { type: "submit" }, texts.edit_save);
  const buttons = create("div", "phi3-edit-buttons");
  const grow = () => {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
    save.disabled = !field.value.trim();
  };
  buttons.append(cancel, save);
  form.append(field, buttons);
  field.value = content;
  field.addEventListener("input", grow);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") onEnd();
    else if (event.key === "Enter" && !event.shiftKey && !event.repeat) form.requestSubmit();
    else if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim()) onSend(field.value);
  });
  cancel.addEventListener("click", onEnd);
  return {
    form,
    focus: () => {
      grow();
      field.focus();
      field.setSelectionRange(field.value.length, field.value.length);
    },
  };
}
