/**
 * What this tab held before it was reloaded, for example after a restart of the server: the open chat, the picked
 * model, the settings, the draft in the message box and the comment being typed. It is saved when the page is left.
 */
export default function tabState() {
  if (globalThis.phi3TabState) return globalThis.phi3TabState;
  const key = "phi3-chat-place";
  let state = {};
  try {
    state = JSON.parse(sessionStorage.getItem(key)) || {};
  } catch (error) {
    console.info("This browser blocks session storage:", error);
  }
  let loggingOut = false;
  document.addEventListener("click", (event) => {
    loggingOut ||= Boolean(event.target.closest(".phi3-login a"));
  });
  globalThis.addEventListener("pagehide", () => {
    if (loggingOut) return sessionStorage.removeItem(key);
    const chats = document.querySelector(".phi3-chats");
    const message = document.querySelector("#phi3-message textarea");
    if (!chats || !message) return;
    const comment = document.querySelector(
      "#phi3-comment :is(textarea, input)",
    );
    const held = {
      ...chats.dataset,
      draft: message.value,
      comment: comment ? comment.value : "",
      settings: globalThis.phi3Settings || state.settings,
    };
    try {
      sessionStorage.setItem(key, JSON.stringify(held));
    } catch (error) {
      console.info("This browser blocks session storage:", error);
    }
  });
  return globalThis.phi3TabState = state;
}
