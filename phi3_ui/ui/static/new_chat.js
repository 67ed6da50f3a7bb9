/** Labels the button that starts a chat, with its keyboard shortcut, and reports its clicks to the server. */
export default function startNewChat(element, trigger, label) {
  const button = element.querySelector("button");
  const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
  button.querySelector("span").textContent = label;
  button.querySelector("kbd").textContent = isMac ? "⌘K" : "Ctrl K";
  button.setAttribute("aria-keyshortcuts", isMac ? "Meta+K" : "Control+K");
  button.addEventListener("click", () => trigger("click"));
}
