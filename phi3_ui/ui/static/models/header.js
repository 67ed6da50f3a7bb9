/** Draws the header's buttons at the right: to compare models, and to save the chat. */
import drawIcon from "../chat/icons.js";
import { create, subscribe } from "./store.js";

export default function showActions({ element, trigger, texts }) {
  const reason = create("span", { class: "phi3-unseen" }, ` (${texts["compare.off"]})`);
  const compare = create(
    "button",
    { type: "button", class: "phi3-ghost", id: "phi3-compare-open" },
    drawIcon("compare"),
    create("span", {}, texts.compare),
    reason,
  );
  compare.addEventListener("click", () => {
    if (compare.getAttribute("aria-disabled") === "false") globalThis.phi3Compare?.open();
  });
  // Focusable also without a model, so that its tooltip can be read without a pointer.
  subscribe(({ status }) => {
    const hasModel = Boolean(status?.name);
    compare.setAttribute("aria-disabled", String(!hasModel));
    compare.title = hasModel ? "" : texts["compare.off"];
    reason.hidden = hasModel;
  });
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
