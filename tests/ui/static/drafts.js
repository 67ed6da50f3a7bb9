// Leaves a tab with drafts, handled by static/composer/drafts.js, and writes those that the next page loads.
import { keepDrafts, loadDrafts } from "../../../phi3_ui/ui/static/composer/drafts.js";

globalThis.document = new EventTarget();
const logout = new Event("click");
Object.defineProperty(logout, "target", { value: { closest: (selector) => selector === ".phi3-logout" } });
const leave = () => {
  globalThis.dispatchEvent(new Event("pagehide"));
  return [...loadDrafts()];
};

const drafts = loadDrafts();
keepDrafts(drafts);
drafts.set("a", { typed: "And of", attached: [] });
drafts.set("b", { typed: " ", attached: [{ name: "x.md", text: "y" }] });
drafts.set("c", { typed: " ", attached: [] });
const reloaded = leave();
drafts.clear();
const emptied = leave();
drafts.set("a", { typed: "And of", attached: [] });
document.dispatchEvent(logout);
console.log(JSON.stringify({ reloaded, emptied, loggedOut: leave() }));
