/** Reads a file as text in the browser: nothing is uploaded. */

export const MAX_CHARACTERS = 1_000_000;

/** Why a file is not attached; the message is the key of a text with `{name}` and `{count}`. */
export class RefusedFile extends Error {}

/** Returns the file's text, without a byte order mark. Throws RefusedFile. */
export default async function readText(file) {
  if (file.size > 4 * MAX_CHARACTERS) throw new RefusedFile("attach.too_large");
  let bytes;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch (error) {
    console.info(`${file.name} cannot be read:`, error); // a folder, or a deleted file
    throw new RefusedFile("attach.unreadable");
  }
  let text;
  try {
    text = new TextDecoder(encodingOf(bytes), { fatal: true }).decode(bytes);
  } catch {
    throw new RefusedFile("attach.not_text");
  }
  // deno-lint-ignore no-control-regex -- these characters identify a binary file
  if (/[\0-\x08\x0e-\x1a]/.test(text)) throw new RefusedFile("attach.not_text");
  if (text.length > MAX_CHARACTERS) throw new RefusedFile("attach.too_large");
  return text.replace(/\r\n?/g, "\n");
}

function encodingOf([first, second]) {
  if (first === 0xff && second === 0xfe) return "utf-16le";
  return first === 0xfe && second === 0xff ? "utf-16be" : "utf-8";
}
