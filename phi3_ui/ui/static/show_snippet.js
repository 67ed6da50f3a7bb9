/** Scrolls to the program that the action "reproduce" has shown, and opens the sidebar that holds it. */
export default function showSnippet() {
  const panel = document.querySelector("#phi3-reproduce");
  const sidebar = document.querySelector("#phi3-right");
  if (globalThis.phi3LastAction !== "reproduce" || !panel) return;
  globalThis.phi3LastAction = null;
  if (!sidebar.classList.contains("open")) {
    sidebar.querySelector(".toggle-button").click();
  }
  panel.scrollIntoView({ block: "start" });
}
