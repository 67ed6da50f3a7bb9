/** Draws the buttons on the right of the header: compare models, and save the chat. */
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
  // Focusable even without a model, so that its tooltip can be read without a pointer.
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
    },
    drawIcon("share"),
  );
  save.addEventListener("click", () => {
    if (save.getAttribute("aria-disabled") === "false") trigger("click");
  });
  const shell = document.querySelector("#phi3-shell");
  const drawSave = () => {
    const isEmpty = shell.hasAttribute("data-empty-chat");
    save.setAttribute("aria-disabled", String(isEmpty));
    save.title = isEmpty ? texts["save_chat.off"] : texts.save_chat;
    save.setAttribute("aria-label", save.title);
  };
  new MutationObserver(drawSave).observe(shell, { attributeFilter: ["data-empty-chat"] });
  drawSave();
  element.append(
    create("div", { class: "phi3-header-actions" }, compare, save),
  );
}
