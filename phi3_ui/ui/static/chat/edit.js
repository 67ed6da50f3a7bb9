/** Edits a question in its own bubble; the message box keeps its draft. */
import { joinBlocks, splitFiles } from "../attached_files.js";
import { create } from "./dom.js";
import { drawFile } from "./question.js";

/** Creates the form that replaces a question's text; attached files stay folded, and are sent again. Ends with `onEnd`; a submitted form stays until the new version is shown. */
export default function createEditor(content, texts, onSend, onEnd) {
  const { files, rest } = splitFiles(content);
  const blocks = files.map(({ block }) => block);
  const form = create("form", "phi3-edit");
  const field = create("textarea", "", { "aria-label": texts.edit_field, dir: "auto", rows: "1" });
  const cancel = create("button", "phi3-cancel", { type: "button" }, texts.cancel);
  const save = create("button", "phi3-save", { type: "submit" }, texts.edit_save);
  const buttons = create("div", "phi3-edit-buttons");
  const isEmpty = () => !blocks.length && !field.value.trim();
  const grow = () => {
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
    save.disabled = isEmpty();
  };
  buttons.append(cancel, save);
  form.append(...files.map((file) => drawFile(file)), field, buttons);
  field.value = rest;
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
    if (!isEmpty()) onSend(joinBlocks(blocks, field.value));
  });
  cancel.addEventListener("click", onEnd);
  let width = 0;
  new ResizeObserver(() => {
    if (field.clientWidth === width) return;
    width = field.clientWidth;
    requestAnimationFrame(grow); // line breaks have changed
  }).observe(field);
  return {
    form,
    focus: () => {
      grow();
      field.focus();
      field.setSelectionRange(field.value.length, field.value.length);
    },
  };
}
