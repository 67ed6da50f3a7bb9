/** The link at the start of the page, to the message box or to the view that covers it. */
export default function createSkipLink({ element, texts }) {
  const link = element.querySelector("a");
  link.textContent = texts.skip;
  link.addEventListener("click", (event) => {
    event.preventDefault(); // a URL with a fragment would add a history entry
    const targets = document.querySelectorAll("#phi3-message textarea, #phi3-centre h2[tabindex]");
    [...targets].find((target) => target.checkVisibility({ visibilityProperty: true }))?.focus();
  });
}
