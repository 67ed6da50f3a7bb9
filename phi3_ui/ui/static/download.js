/** Saves the file in the component's value. The file is created in the browser, so the server keeps no copy. */
export default function saveDownloads(watch, props) {
  watch("value", () => {
    if (!props.value) return;
    const { name, kind, content } = JSON.parse(props.value);
    const bytes = Uint8Array.from(
      atob(content),
      (character) => character.charCodeAt(0),
    );
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([bytes], { type: kind }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  });
}
