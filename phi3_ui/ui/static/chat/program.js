/** Draws the program that reproduces an answer, the component's value, as code with a button that copies it. */
import { copyButton } from "./copy.js";
import renderBlocks from "./markdown.js";

export default function showProgram({ element, props, watch, texts }) {
  const draw = () => {
    const program = props.value ?? "";
    const fence = "`".repeat(1 + Math.max(2, ...(program.match(/`+/g) ?? []).map((run) => run.length)));
    const root = document.createElement("div");
    root.className = "phi3-written";
    root.innerHTML = renderBlocks(`${fence}python\n${program}\n${fence}`, draw).join("");
    root.querySelector(".phi3-code").prepend(copyButton(texts, texts.copy_code, () => program));
    element.replaceChildren(root);
  };
  watch("value", draw);
  draw();
}
