/**
 * Shows the program that reproduces an answer in a dialog. The component's value has `program` and `at`, which
 * distinguishes showing a program again from a repeated update.
 */
import createDialog from "../dialog.js";
import addHeads from "./code.js";
import renderBlocks from "./markdown.js";

export default function showProgram({ element, props, watch, texts }) {
  const written = document.createElement("div");
  written.className = "phi3-written";
  const dialog = createDialog("phi3-program", texts.reproduce, texts.close, written);
  element.append(dialog);
  let shownAt = null;

  const write = (program) => {
    const fence = "`".repeat(1 + Math.max(2, ...(program.match(/`+/g) ?? []).map((run) => run.length)));
    written.innerHTML = renderBlocks(`${fence}python\n${program}\n${fence}`, () => write(program)).join("");
    addHeads(written, texts);
  };
  const show = () => {
    if (!props.value || props.value.at === shownAt) return;
    shownAt = props.value.at;
    write(props.value.program);
    if (!dialog.open) dialog.showModal();
  };
  watch("value", show);
  show();
}
