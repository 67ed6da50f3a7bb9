/** Draws the header's buttons at the right: to compare models, and to save the chat. */
import drawIcon from "../chat/icons.js";
import { create } from "./store.js";

export default function showActions({ element, trigger, texts }) {
  // Focusable, so that its tooltip can be read without a pointer.
  const compare = create(
    "button",
    {
      type: "button",
      class: "phi3-ghost",
      "aria-disabled": "true",
      title: texts["compare.off"],
    },
    drawIcon("compare"),
    texts.compare,
    create("span", { class: "phi3-unseen" }, ` (${texts["compare.off"]})`),
  );
  const save = create(
    "button",
    {
      type: "button",
      class: "phi3-icon",
      id: "phi3-save",
      title: texts.save_chat,
      "aria-label": texts.save_chat,
    },
    drawIcon("share"),
  );
  save.addEventListener("click", () => trigger("click"));
  element.append(
    create("div", { class: "phi3-header-actions" }, compare, save),
  );
}
