/** Copies text exactly: copied text is never read from the display. */
import { createButton, setLabel } from "./dom.js";
import drawIcon from "./icons.js";

const SHOWN_FOR = 1500; // milliseconds

/** Creates a button with an icon that copies what `read` returns. */
export function copyButton(texts, label, read) {
  const button = createButton("phi3-copy", label, "copy");
  button.addEventListener("click", async () => {
    if (!await copy(read())) return;
    button.classList.add("copied");
    button.replaceChildren(drawIcon("check"));
    setLabel(button, texts.copied);
    setTimeout(() => {
      button.classList.remove("copied");
      button.replaceChildren(drawIcon("copy"));
      setLabel(button, label);
    }, SHOWN_FOR);
  });
  return button;
}

/** Copies a text; returns whether the browser has allowed it. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch (error) {
    // A page opened over plain HTTP from another machine has no clipboard API; or the browser denies access.
    console.info("Copying through the document:", error);
  }
  const write = (event) => {
    event.preventDefault();
    event.clipboardData.setData("text/plain", text);
  };
  document.addEventListener("copy", write, { once: true });
  const isCopied = document.execCommand("copy");
  document.removeEventListener("copy", write);
  return isCopied;
}
