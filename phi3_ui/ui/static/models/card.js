/** The model card's buttons: those with `data-copy` copy their value, another allows the model's code. The card is replaced, but its component stays. */
import { copy } from "../chat/copy.js";
import drawIcon from "../chat/icons.js";

const SHOWN_FOR = 1500; // milliseconds

export default function showCard({ element, texts }) {
  element.addEventListener("click", async (event) => {
    if (event.target.closest(".phi3-approve")) document.querySelector("#phi3-approve").click();
    const button = event.target.closest("[data-copy]");
    if (!button || !await copy(button.dataset.copy)) return;
    const label = button.title;
    button.replaceChildren(drawIcon("check"));
    button.title = texts.copied;
    button.setAttribute("aria-label", texts.copied);
    setTimeout(() => {
      button.replaceChildren(drawIcon("copy"));
      button.title = label;
      button.setAttribute("aria-label", label);
    }, SHOWN_FOR);
  });
}
