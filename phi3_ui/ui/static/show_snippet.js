/** Scrolls to the program that the action "reproduce" has shown, and opens the panel that holds it. */
export default function showSnippet() {
  const program = document.querySelector("#phi3-reproduce");
  if (globalThis.phi3LastAction !== "reproduce" || !program) return;
  globalThis.phi3LastAction = null;
  globalThis.phi3Panels?.open("right");
  program.scrollIntoView({ block: "start" });
}
