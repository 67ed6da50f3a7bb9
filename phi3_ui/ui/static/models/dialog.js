/**
 * The dialog "Add a model", around Gradio's components: opened by `globalThis.phi3AddModel.open(opener)`, closed by
 * Escape, its button or a click outside. The focus is trapped in it while it is open, and then returns to the opener.
 */
import drawIcon from "../chat/icons.js";
import { create } from "./store.js";

const FOCUSABLE = "button, input, textarea, select, a[href]";

export default function manageDialog({ element, texts }) {
  const overlay = document.querySelector("#phi3-add");
  const box = document.querySelector("#phi3-add-box");
  const title = create("h2", { id: "phi3-add-title" }, texts.add);
  const button = create(
    "button",
    { type: "button", class: "phi3-icon", title: texts.close, "aria-label": texts.close },
    drawIcon("close"),
  );
  element.append(create("div", { class: "phi3-dialog-head" }, title, button));
  for (const [name, value] of Object.entries({ role: "dialog", "aria-modal": "true", "aria-labelledby": title.id })) {
    box.setAttribute(name, value);
  }
  let opener = null;

  const focusable = () =>
    [...box.querySelectorAll(FOCUSABLE)].filter((one) =>
      !one.disabled && one.checkVisibility({ visibilityProperty: true }) &&
      (one.type !== "radio" || one.checked)
    );

  function open(from) {
    opener = from;
    overlay.setAttribute("data-open", "");
    (box.querySelector(".phi3-preset input:checked") ?? button).focus();
  }

  function close() {
    overlay.removeAttribute("data-open");
    if (opener?.isConnected) opener.focus({ preventScroll: true });
    opener = null;
  }

  function press(event) {
    if (event.key === "Escape") {
      if (event.defaultPrevented) return; // it has closed a dropdown list
      event.preventDefault();
      event.stopPropagation();
      close();
    } else if (event.key === "Tab") {
      const stops = focusable();
      const [first, last] = [stops[0], stops.at(-1)];
      const isLeaving = document.activeElement === (event.shiftKey ? first : last);
      if (!isLeaving && box.contains(document.activeElement)) return;
      event.preventDefault();
      (event.shiftKey ? last : first).focus();
    }
  }

  button.addEventListener("click", close);
  overlay.addEventListener("keydown", press);
  // A control that is disabled while focused, such as Add, loses the focus: the keys then go to the page.
  document.addEventListener("keydown", (event) => {
    if (overlay.hasAttribute("data-open") && !overlay.contains(event.target)) press(event);
  }, true);
  overlay.addEventListener("pointerdown", (event) => {
    if (event.target === overlay) close();
  });
  document.addEventListener("click", (event) => {
    const opener = event.target.closest?.("[data-add-model]");
    if (opener) open(opener);
  });
  globalThis.phi3AddModel = { open, close };
}
