/** The page's keyboard shortcuts, and the sheet that lists them. */
import createDialog from "../dialog.js";
import { createElement } from "../dom.js";

/** `composer` has `box()`, `isBusy()` and `stop()`. Returns the sheet. */
export default function listenForShortcuts(texts, composer) {
  const isMac = navigator.platform.startsWith("Mac");
  const command = isMac ? "⌘" : texts["shortcuts.ctrl"];
  const sheet = drawSheet(texts, [
    [["Enter"], texts["shortcuts.send"]],
    [["Shift", "Enter"], texts["shortcuts.line"]],
    [["Esc"], texts["shortcuts.stop"]],
    [["↑"], texts["shortcuts.edit"]],
    [[command, "K"], texts["shortcuts.new"]],
    [[command, "/"], texts["shortcuts.sheet"]],
  ]);
  const toggleSheet = () => sheet.open ? sheet.close() : sheet.showModal();
  const isCovered = () => document.querySelector("dialog[open]") || document.querySelector("[popover]:popover-open");

  const startNewChat = () => {
    document.querySelector("#phi3-new")?.click();
    composer.box()?.focus();
  };
  const editLastQuestion = () => {
    const button = [...document.querySelectorAll('#phi3-chat button.phi3-action[name="edit"]')].at(-1);
    button?.click();
    return Boolean(button);
  };

  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.repeat) return;
    const { key, target } = event;
    const isInBox = target === composer.box();
    const isInOtherField = !isInBox && target.closest?.("input, textarea, select, [contenteditable]");
    let isDone = false;
    if (event.ctrlKey || event.metaKey) {
      if (key === "/") isDone = toggleSheet() ?? true;
      else if (key.toLowerCase() === "k" && !event.shiftKey && !isCovered()) isDone = startNewChat() ?? true;
    } else if (key === "Escape" && composer.isBusy() && !isCovered() && !isInOtherField) {
      isDone = composer.stop() ?? true;
    } else if (key === "ArrowUp" && isInBox && target.value === "" && !event.shiftKey && !composer.isBusy()) {
      isDone = editLastQuestion();
    }
    if (isDone) event.preventDefault();
  });
  return sheet;
}

function drawSheet(texts, rows) {
  const list = createElement("dl");
  for (const [keys, what] of rows) {
    const names = keys.map((key) => createElement("kbd", "", {}, key));
    list.append(createElement("div", "", {}, createElement("dt", "", {}, what), createElement("dd", "", {}, ...names)));
  }
  return createDialog("phi3-shortcuts", texts.shortcuts, texts["shortcuts.close"], list);
}
