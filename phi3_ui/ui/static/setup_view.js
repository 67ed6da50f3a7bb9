/**
 * Removes the document's note that the page is opening, and marks the shell while the first run's checklist takes the whole
 * page. Not `:has()` in the style sheet: the browser would search the whole page for the checklist each time a paragraph of an
 * answer is drawn.
 */
export default function markSetup(element, watch) {
  document.querySelector("#phi3-opening")?.remove();
  const shell = document.querySelector("#phi3-shell");
  const mark = () => {
    shell.toggleAttribute("data-setup", element.isConnected && element.querySelector(".phi3-setup") !== null);
  };
  watch("value", mark);
  new ResizeObserver(mark).observe(element); // also called when Gradio removes the view
  mark();
}
