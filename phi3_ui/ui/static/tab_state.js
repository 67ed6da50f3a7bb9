/**
 * The state of this tab before a reload, for example after a server restart or a lost connection: the open chat, the selected
 * model, the settings, the draft in the message box, the comment being typed and the turn that was stopped; and the tab's
 * secret, by which the server recognises its next page. It is saved when the page is left, and the server is notified.
 */
export default function tabState() {
  if (globalThis.phi3TabState) return globalThis.phi3TabState;
  const key = "phi3-chat-place";
  const store = (state) => {
    try {
      sessionStorage.setItem(key, JSON.stringify(state));
    } catch (error) {
      console.info("This browser blocks session storage:", error);
    }
  };
  let state = {};
  try {
    state = JSON.parse(sessionStorage.getItem(key)) || {};
  } catch (error) {
    console.info("This browser blocks session storage:", error);
  }
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const secret = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  state.tab ||= secret;
  // The secret is stored only while no page is shown: a duplicated tab gets a copy of the storage, but is a different tab.
  const forgetTab = (held) => store({ ...held, tab: undefined });
  forgetTab(state);

  const closeTab = () => {
    const root = new URL(globalThis.gradio_config?.root || "/", location.href).pathname.replace(/\/$/, "");
    navigator.sendBeacon(`${root}/tab/close`, new URLSearchParams({ tab: state.tab }));
  };
  const read = () => {
    const chats = document.querySelector(".phi3-chats");
    const message = document.querySelector("#phi3-message textarea");
    if (!chats || !message) return { ...state };
    const comment = document.querySelector("#phi3-comment :is(textarea, input)");
    return {
      ...chats.dataset,
      tab: state.tab,
      draft: message.value,
      taken: globalThis.phi3TakenMessage || "",
      comment: comment ? comment.value : "",
      stopped: globalThis.phi3StoppedTurn || "",
      settings: globalThis.phi3Settings || state.settings,
    };
  };
  let loggingOut = false;
  document.addEventListener("click", (event) => {
    loggingOut ||= Boolean(event.target.closest(".phi3-logout"));
  });
  globalThis.addEventListener("pagehide", (event) => {
    if (loggingOut) sessionStorage.removeItem(key);
    else store(read());
    // A page in the browser's back/forward cache has not closed.
    if (!event.persisted) closeTab();
  });
  globalThis.addEventListener("pageshow", (event) => {
    if (event.persisted) forgetTab(read());
  });
  return globalThis.phi3TabState = state;
}
