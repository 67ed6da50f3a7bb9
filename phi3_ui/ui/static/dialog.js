import drawIcon from "./chat/icons.js";
import { createElement, createIconButton } from "./dom.js";

/** Creates a modal dialog with a title and a close button; a click outside also closes it. Its title's id is `id`-title. */
export default function createDialog(id, title, closeLabel, ...children) {
  const close = createIconButton(drawIcon("close"), closeLabel);
  const heading = createElement("h2", "", { id: `${id}-title` }, title);
  const dialog = createElement(
    "dialog",
    "phi3-dialog",
    { id, "aria-labelledby": heading.id },
    createElement("header", "", {}, heading, close),
    ...children,
  );
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
  return dialog;
}
