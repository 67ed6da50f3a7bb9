/** The list of chats: loads more of them at its end, and renames a chat in its place. */
export default function manageConversations(texts) {
  if (globalThis.phi3Conversations) return;
  globalThis.phi3Conversations = true;
  const AHEAD = 600; // pixels
  const list = document.querySelector("#phi3-chats");
  let requested = null; // the button whose chats are on their way
  let renaming = null; // { id, field }

  const title = (id) => list.querySelector(`button[name="open"][value="${CSS.escape(id)}"]`);

  function loadMore() {
    const button = list.querySelector('button[name="more"]');
    const isNear = list.scrollHeight - list.scrollTop - list.clientHeight < AHEAD;
    if (!button || !isNear || button === requested || list.scrollTop === 0) return;
    requested = button;
    globalThis.phi3PerformAction("more", "", "");
  }

  function rename(id) {
    const button = title(id);
    if (!button || renaming) return;
    const before = button.title || button.textContent;
    const field = document.createElement("input");
    field.value = before;
    field.maxLength = 200;
    field.className = "phi3-rename";
    field.dir = "auto";
    field.setAttribute("aria-label", texts["chats.title"]);
    renaming = { id, field };
    const end = (saves) => {
      if (renaming?.field !== field) return;
      renaming = null;
      const shown = title(id);
      field.remove();
      if (shown) shown.hidden = false;
      if (document.activeElement === document.body) shown?.focus({ preventScroll: true });
      if (saves && field.value !== before) globalThis.phi3PerformAction("rename", id, field.value);
    };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // otherwise the key presses the button that gets the focus
      event.stopPropagation(); // and Escape closes the drawer
      end(event.key === "Enter");
    });
    // Deferred: the list may be in the middle of a redraw, without this field.
    field.addEventListener("blur", () => setTimeout(() => document.activeElement !== field && end(true)));
    showField();
    field.select();
  }

  // Also once the list was drawn again.
  function showField() {
    if (!renaming || renaming.field.isConnected) return;
    const button = title(renaming.id);
    if (!button) return;
    button.hidden = true;
    button.after(renaming.field);
    renaming.field.focus({ preventScroll: true });
  }

  new MutationObserver(() => {
    showField();
    loadMore();
  }).observe(list, { childList: true, subtree: true });
  list.addEventListener("scroll", loadMore, { passive: true });
  list.addEventListener("dblclick", (event) => {
    const button = event.target.closest('button[name="open"]');
    if (button) rename(button.value);
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === "F2" && event.target.name === "open") rename(event.target.value);
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.('button.phi3-action[name="rename"]');
    if (button) rename(button.value);
  });
}
