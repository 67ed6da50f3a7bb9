/**
 * Forwards clicks on action buttons, in messages and in the chat list, and changes of action selects to the server, with name
 * and value. `trigger` fires an event of the hidden component that this script belongs to. Other scripts use
 * `globalThis.phi3PerformAction(name, value, text)`.
 */
export default function forwardActions(trigger) {
  const ASKS = ["edit", "continue", "start"];
  const messageBox = () => document.querySelector("#phi3-message textarea");

  const perform = (name, value, text) => {
    globalThis.phi3LastAction = name;
    trigger("click", { name, value, text });
    if (["open", "replay", "usage", "ratings", "evaluations", "compare"].includes(name)) {
      globalThis.phi3Panels?.closeDrawers();
    }
    keepFocus(name, value);
  };

  // A redraw removes the focused button: focus its successor, or the message box if the action fills it.
  const keepFocus = (name, value) => {
    const fillsBox = ASKS.includes(name) || name === "undo";
    const successor = { delete: "restore", restore: "open", pin: "open", unpin: "open" }[name] || name;
    const selector = [
      `button.phi3-action[name="${successor}"][value="${value}"]`,
      `select.phi3-action[name="${name}"]`,
    ].join(", ");
    const observer = new MutationObserver(() => {
      if (document.activeElement !== document.body) return;
      const target = fillsBox ? messageBox() : document.querySelector(selector);
      if (target) target.focus({ preventScroll: true });
    });
    if (fillsBox) messageBox().focus();
    observer.observe(document.body, { childList: true, subtree: true });
    const stop = () => observer.disconnect();
    document.addEventListener("pointerdown", stop, { once: true });
    document.addEventListener("keydown", stop, { once: true });
  };

  globalThis.phi3PerformAction = perform;
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button.phi3-action");
    if (!button || button.name === "rename") return; // conversations.js asks for the title first
    if (button.name === "open" && event.detail > 1) return; // a double click renames the chat
    perform(button.name, button.value, "");
  });
  document.addEventListener("change", ({ target }) => {
    if (target.matches?.("select.phi3-action")) perform(target.name, target.value, "");
  });
}
