/** Files that are dropped on the chat or pasted into the message box. */

export default function acceptFiles(composer, texts, add) {
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const isOverChat = (event) => event.target.closest?.("#phi3-main");
  composer.dataset.drop = texts["attach.drop"];

  // A file that is dropped elsewhere would replace the page, with all that was typed.
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event) || event.defaultPrevented) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = isOverChat(event) ? "copy" : "none";
    composer.toggleAttribute("data-dropping", Boolean(isOverChat(event)));
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) composer.removeAttribute("data-dropping");
  });
  addEventListener("drop", (event) => {
    composer.removeAttribute("data-dropping");
    if (!holdsFiles(event) || event.defaultPrevented) return;
    event.preventDefault();
    if (isOverChat(event)) add([...event.dataTransfer.files]);
  });
  composer.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    if (!files.length || types.includes("text/plain")) return; // a spreadsheet copies its cells as text and as a picture
    event.preventDefault();
    add([...files]);
  }, true);
}
