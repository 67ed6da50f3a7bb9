/** Files that are dropped on the view around a composer, or pasted into it. */

export default function acceptFiles(composer, texts, add, area = "#phi3-main") {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const isOver = (event) => Boolean(event.target.closest?.(area));
  composer.dataset.drop = texts["attach.drop"];

  // A file that is dropped elsewhere would replace the page, with all that was typed.
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
    if (!files.length || types.includes("text/plain")) return; // a spreadsheet copies its cells as text and as a picture
    event.preventDefault();
    add([...files]);
  }, true);
}
