"""What runs in the browser when the page loads or a button has done its work. Those of the small buttons: render/actions.py."""

# Run when the page has loaded: on a narrow screen the side panels start shut.
COLLAPSE_SIDEBARS_JS = """() => document.querySelectorAll(".sidebar").forEach((sidebar) => {
  const settle = () => { sidebar.dataset.settled = "yes"; };
  if (window.innerWidth > 1000 || !sidebar.classList.contains("open")) return settle();
  sidebar.addEventListener("transitionend", settle, { once: true });
  sidebar.querySelector(".toggle-button").click();
})"""

# Run after a button of render/actions.py has done its work: the program that one of them asks for is brought into sight.
SHOW_SNIPPET_JS = """() => {
  const panel = document.querySelector("#phi3-reproduce"), drawer = document.querySelector("#phi3-right");
  if (window.phi3Asked !== "reproduce" || !panel) return;
  window.phi3Asked = null;
  if (!drawer.classList.contains("open")) drawer.querySelector(".toggle-button").click();
  panel.scrollIntoView({ block: "start" });
}"""

# A visitor without a login is known again by a secret that this browser makes and keeps.
VISITOR_ID_JS = """() => {
  if (window.phi3Who) return window.phi3Who;
  const key = "phi3-chat-who";
  let who = null;
  try { who = localStorage.getItem(key); } catch (error) { console.info("This browser keeps nothing:", error); }
  if (!who) {
    who = [...crypto.getRandomValues(new Uint8Array(24))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    try { localStorage.setItem(key, who); } catch (error) { console.info("This browser keeps nothing:", error); }
  }
  return window.phi3Who = who;
}"""

# What a tab holds is found again when it is loaded anew, as after a restart of the server: which chat, which model, the words
# in the message box and those on the answer that was rated last. They stay in this tab's own storage, with whose they are.
TAB_STATE_JS = """() => {
  if (window.phi3Place) return window.phi3Place;
  const key = "phi3-chat-place";
  let place = {};
  try { place = JSON.parse(sessionStorage.getItem(key)) || {}; } catch (error) { console.info("This tab keeps nothing:", error); }
  let out = false;
  document.addEventListener("click", (event) => { out ||= Boolean(event.target.closest(".phi3-login a")); });
  window.addEventListener("pagehide", () => {
    if (out) return sessionStorage.removeItem(key);
    const chats = document.querySelector(".phi3-chats"), message = document.querySelector("#phi3-message textarea");
    if (!chats || !message) return;
    const comment = document.querySelector("#phi3-comment :is(textarea, input)");
    const held = { ...chats.dataset, draft: message.value, comment: comment ? comment.value : "" };
    try { sessionStorage.setItem(key, JSON.stringify(held)); }
    catch (error) { console.info("This tab keeps nothing:", error); }
  });
  return window.phi3Place = place;
}"""
