/** Accepts files dropped on the view around a composer, or pasted into it. */

export default function acceptFiles(composer, texts, add, area = "#phi3-main") {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const isOver = (event) => Boolean(event.target.closest?.(area));
  composer.dataset.drop = texts["attach.drop"];

  // A file dropped elsewhere would replace the page and discard what was typed.
  addEventListener("dragover", (event) => {
    composer.toggleAttribute("data-dropping", Boolean(holdsFiles(event)) && isOver(event));
    if (!holdsFiles(event) || (event.defaultPrevented && !isOver(event))) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = isOver(event) ? "copy" : "none";
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) composer.removeAttribute("data-dropping");
  });
  addEventListener("drop", (event) => {
    composer.removeAttribute("data-dropping");
    if (!holdsFiles(event)) return;
    event.preventDefault();
    if (isOver(event)) add([...event.dataTransfer.files]);
  });
  composer.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    if (!files.length || types.includes("text/plain")) return; // a spreadsheet copies its cells both as text and as an image
    event.preventDefault();
    add([...files]);
  }, true);
}
