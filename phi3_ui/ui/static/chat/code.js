/** The header of a code block: its language, a toggle that wraps long lines, and Copy. */
import { copyButton } from "./copy.js";
import { create, createButton } from "./dom.js";

// Only a box that scrolls is a tab stop. A block that is not laid out yet is measured once it is.
const overflow = globalThis.ResizeObserver && new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});

/** Adds the headers of the code blocks in `root`. */
export default function addHeads(root, texts) {
  for (const block of root.querySelectorAll(".phi3-code")) {
    const box = block.querySelector("pre");
    const head = create("div", "phi3-code-head");
    const wrap = createButton("phi3-wrap", texts.wrap_code, "wrap", { "aria-pressed": "false" });
    wrap.addEventListener("click", () => {
      const isWrapped = block.classList.toggle("wrapped");
      wrap.setAttribute("aria-pressed", String(isWrapped));
    });
    const copy = copyButton(texts, texts.copy_code, () => box.textContent.replace(/\n$/, ""));
    head.append(create("span", "phi3-language", {}, block.dataset.language ?? ""), wrap, copy);
    block.prepend(head);
  }
}

/** Makes only those boxes in `root` that scroll reachable by Tab. */
export function watchOverflow(root) {
  for (const box of root.querySelectorAll(".phi3-code pre, .phi3-table")) {
    if (!overflow) break;
    box.removeAttribute("tabindex");
    overflow.observe(box);
  }
}
