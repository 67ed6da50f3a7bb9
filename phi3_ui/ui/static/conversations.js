/**
 * The chat list: the server sends part of it, with gaps above and below as high as the other chats. This script requests the
 * part that the list is scrolled to, keeps the focus on the same chat, and renames a chat in place.
 */
export default function manageConversations(trigger, texts) {
  if (globalThis.phi3Conversations) return;
  globalThis.phi3Conversations = true;
  const ROW = 35; // pixels, as in conversations.css
  const AHEAD = 30; // rows loaded ahead in the scroll direction
  const BEHIND = 5; // rows kept loaded on the other side
  const LEAD = 20; // rows by which a requested part is shifted in the scroll direction
  const STEP = 25; // rows
  const RETRY = 3000; // milliseconds
  const list = document.querySelector("#phi3-chats");
  let requested = { start: 0, at: 0 }; // the last requested part: only one request is in flight
  let shown = 0; // the position of the first loaded row
  let scrolledTo = 0; // pixels
  let direction = 1; // down, or -1: up
  let focused = null; // { name, value } of the button in the list that has the focus, or had it until it was scrolled out
  let renaming = null; // { id, field, end }

  const title = (id) => list.querySelector(`button[name="open"][value="${CSS.escape(id)}"]`);

  /** Returns the loaded rows, the position of the first one, and how many rows the list has. */
  function readPart() {
    const [above, below] = [...list.querySelectorAll(".phi3-gap")].map((gap) => Number(gap.dataset.rows));
    const rows = [...list.querySelectorAll(".phi3-row")];
    return { rows, start: above, count: above + rows.length + below };
  }

  function load(middle) {
    const { rows, start, count } = readPart();
    const aligned = STEP * Math.round((middle - rows.length / 2) / STEP);
    const next = Math.max(0, Math.min(aligned, count - rows.length));
    const now = performance.now();
    const isWaiting = requested.start !== start && now - requested.at < RETRY;
    if (next === start || isWaiting) return;
    requested = { start: next, at: now };
    trigger("input", { start: next });
    setTimeout(loadVisible, RETRY);
  }

  function loadVisible() {
    const { rows, start, count } = readPart();
    if (!rows.length || rows.length === count) return;
    const { top, height } = list.getBoundingClientRect();
    const from = rows[0].getBoundingClientRect().top - top;
    const to = rows.at(-1).getBoundingClientRect().bottom - top;
    const end = start + rows.length;
    const first = from > 0 ? start - from / ROW : end - to / ROW;
    const last = first + height / ROW;
    const [above, below] = direction > 0 ? [BEHIND, AHEAD] : [AHEAD, BEHIND];
    const isThere = Math.max(0, first - above) >= start && Math.min(count, last + below) <= end;
    if (!isThere) load((first + last) / 2 + direction * LEAD);
  }

  const describe = ({ name, value, className }) => ({ name, value, className });
  const isFocused = (button) =>
    button.name === focused.name && button.value === focused.value && button.className === focused.className;

  // A redraw reuses the buttons in order, so the focus would move to another chat.
  function keepFocus() {
    const { rows, start } = readPart();
    const hasMoved = start !== shown;
    shown = start;
    const active = document.activeElement;
    if (!focused || (active !== document.body && !list.contains(active))) return;
    if (active.matches("button") && isFocused(active)) return;
    if (focused.name === "more") {
      rows[Number(focused.value) - start]?.querySelector("button").focus({ preventScroll: true });
      return;
    }
    const button = [...list.querySelectorAll("button")].find(isFocused);
    if (button) button.focus({ preventScroll: true });
    else if (hasMoved) active.blur(); // until its chat is loaded again
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
    const end = (saves) => {
      if (renaming?.field !== field) return;
      renaming = null;
      const shown = title(id);
      field.remove();
      if (shown) shown.hidden = false;
      if (document.activeElement === document.body) shown?.focus({ preventScroll: true });
      if (saves && field.value !== before) trigger("edit", { id, title: field.value });
    };
    renaming = { id, field, end };
    field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); // otherwise the key would press the button that gets the focus
      event.stopPropagation(); // and Escape would close the drawer
      end(event.key === "Enter");
    });
    // Deferred: the list may be in the middle of a redraw that has removed this field.
    field.addEventListener("blur", () => setTimeout(() => document.activeElement !== field && end(true)));
    showField();
    field.select();
  }

  // Also called after each redraw of the list.
  function showField() {
    if (!renaming || renaming.field.isConnected) return;
    const button = title(renaming.id);
    if (!button) {
      renaming.end(true); // it was scrolled out
      return;
    }
    button.hidden = true;
    button.after(renaming.field);
    renaming.field.focus({ preventScroll: true });
  }

  new MutationObserver(() => {
    showField();
    keepFocus();
    loadVisible();
  }).observe(list, { childList: true, subtree: true, attributeFilter: ["value"] });
  list.addEventListener("scroll", () => {
    direction = Math.sign(list.scrollTop - scrolledTo) || direction;
    scrolledTo = list.scrollTop;
    loadVisible();
  }, { passive: true });
  new ResizeObserver(loadVisible).observe(list);
  document.addEventListener("input", ({ target }) => {
    if (target.closest?.("#phi3-search")) list.scrollTo(0, 0);
  });
  document.addEventListener("focusin", ({ target }) => {
    focused = list.contains(target) && target.matches("button") ? describe(target) : null;
  });
  document.addEventListener("pointerdown", ({ target }) => {
    if (!list.contains(target)) focused = null;
  }, true);
  list.addEventListener("dblclick", (event) => {
    const button = event.target.closest('button[name="open"]');
    if (button) rename(button.value);
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === "F2" && event.target.name === "open") rename(event.target.value);
  });
  list.addEventListener("click", (event) => {
    const button = event.target.closest('button[name="more"]');
    if (button) load(Number(button.value));
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.('button.phi3-action[name="rename"]');
    if (button) rename(button.value);
  });
}
