/** Keeps a view's scroll position across redraws, and scrolls to the element with `data-reveal`. */
export default function keepScroll(element, watch) {
  let top = 0;
  element.addEventListener("scroll", ({ target }) => {
    if (target.matches(".phi3-view-body")) top = target.scrollTop;
  }, true);
  watch("value", () => {
    const body = element.querySelector(".phi3-view-body");
    if (!body) {
      top = 0;
      return;
    }
    body.scrollTop = top;
    body.querySelector("[data-reveal]")?.scrollIntoView({ block: "nearest" });
  });
}
