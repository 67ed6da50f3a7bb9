/** Keeps the drafts of chats that are not shown across a reload of the tab. */

const KEY = "phi3-chat-drafts";

/** Returns a map from the id of each chat to its draft: the `typed` text and the `attached` files. */
export function loadDrafts() {
  try {
    const drafts = new Map(JSON.parse(sessionStorage.getItem(KEY)) ?? []);
    sessionStorage.removeItem(KEY);
    return drafts;
  } catch (error) {
    console.info("This browser blocks session storage:", error);
    return new Map();
  }
}

/** Stores `drafts` when the page is left, unless the user logs out: the next user of the tab may be someone else. */
export function keepDrafts(drafts) {
  document.addEventListener("click", (event) => {
    if (event.target.closest?.(".phi3-logout")) drafts.clear();
  });
  addEventListener("pagehide", () => {
    const kept = [...drafts].filter(([, { typed, attached }]) => typed.trim() !== "" || attached.length);
    try {
      if (kept.length) sessionStorage.setItem(KEY, JSON.stringify(kept));
      else sessionStorage.removeItem(KEY);
    } catch (error) {
      console.info("The drafts of other chats are not kept across a reload:", error);
    }
  });
}
