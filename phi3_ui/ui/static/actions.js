/**
 * Forwards clicks on action buttons, in messages and in the chat list, to the server: name, value and, for a rename,
 * the new title. `trigger` fires an event of the hidden component that this script belongs to.
 */
export default function forwardActions(trigger) {
  const messageBox = () => document.querySelector("#phi3-message textarea");

  const perform = (name, value, text) => {
    globalThis.phi3LastAction = name;
    trigger("click", { name, value, text });
    if (["open", "replay", "usage"].includes(name)) globalThis.phi3Panels?.closeDrawers();
    keepFocus(name, value);
  };

  // Redrawing removes the focused button: focus its successor, or the message box if that is filled.
  const keepFocus = (name, value) => {
    const fillsBox = name === "edit" || name === "undo";
    const successor = { delete: "restore", rename: "open", restore: "open" }[name] || name;
    const selector = `button.phi3-action[name="${successor}"][value="${value}"]`;
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

  // Replaces a chat's title by a text field.
  const rename = (button) => {
    const row = button.closest(".phi3-row");
    const title = row.querySelector('button[name="open"]');
    const input = document.createElement("input");
    input.value = title.title || title.textContent;
    const before = input.value; // without the line breaks that a title may have
    input.maxLength = 200;
    input.className = "phi3-rename";
    input.setAttribute("aria-label", button.title);
    let ended = false;
    const end = (save) => {
      if (ended) return;
      ended = true;
      if (input.isConnected) input.replaceWith(title);
      if (save && input.value !== before) perform("rename", button.value, input.value);
    };
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // otherwise the key presses the button that gets the focus
      end(event.key === "Enter");
    });
    // Deferred: the list may be in the middle of a redraw, without this field.
    input.addEventListener("blur", () => setTimeout(() => end(true)));
    title.replaceWith(input);
    input.select();
  };

  document.addEventListener("keydown", (event) => {
    const cancel = document.querySelector("#phi3-editing button");
    if (event.key === "Escape" && cancel && event.target === messageBox()) {
      cancel.click();
    }
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button.phi3-action");
    if (!button) return;
    if (button.name === "rename") rename(button);
    else perform(button.name, button.value, "");
  });
}
