/** Keeps a view where it was scrolled to when it is drawn again, and shows what was asked for by `data-reveal`. */
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
