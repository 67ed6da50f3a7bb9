/** Lets the user close the warning below the chat until its text changes. */
export default function closeWarning(element) {
  let closed = "";
  const sentence = () => element.querySelector("p")?.textContent ?? "";
  const draw = () => {
    if (sentence() !== closed) closed = "";
    element.toggleAttribute("hidden", closed !== "");
  };
  element.addEventListener("click", (event) => {
    if (!event.target.closest("button")) return;
    closed = sentence();
    draw();
    document.querySelector("#phi3-message textarea")?.focus({ preventScroll: true });
  });
  new MutationObserver(draw).observe(element, { childList: true, subtree: true, characterData: true });
}
