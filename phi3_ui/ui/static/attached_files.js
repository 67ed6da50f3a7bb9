/**
 * Attached files as part of a question's text: for each, a line with its name and a code block, then the typed text. The
 * question is sent to the model, stored, copied and exported in this form; the chat folds the files.
 */

/** `files` have `name` and `text`. */
export function joinFiles(files, typed) {
  return joinBlocks(files.map(formatFile), typed);
}

/** `blocks` are files in the form of `formatFile` or of the `block` of `splitFiles`. */
export function joinBlocks(blocks, typed) {
  return [...blocks, ...(typed.trim() === "" ? [] : [typed])].join("\n\n");
}

/** Formats a file as part of a question. The fence is longer than any in the file. */
export function formatFile({ name, text }) {
  const runs = text.match(/`{3,}/g) ?? [];
  const fence = "`".repeat(Math.max(3, ...runs.map((run) => run.length + 1)));
  const end = text === "" || text.endsWith("\n") ? "" : "\n";
  return `File: ${cleanName(name)}\n${fence}${languageOf(name)}\n${text}${end}${fence}`;
}

/** Splits a question into the files at its beginning, each with its original `block`, and the rest of the text. */
export function splitFiles(question) {
  const files = [];
  let rest = question;
  for (;;) {
    const found = /^File: ([^\n]+)\n(`{3,})[\w+#-]*\n/.exec(rest);
    if (!found) break;
    const [head, name, fence] = found;
    const end = rest.indexOf(`\n${fence}`, head.length - 1);
    const after = end < 0 ? "" : rest.slice(end + 1 + fence.length);
    if (end < 0 || (after !== "" && !after.startsWith("\n\n"))) break;
    const block = rest.slice(0, end + 1 + fence.length);
    files.push({ name, text: rest.slice(head.length, end + 1), block });
    rest = after.slice(2);
  }
  return { files, rest };
}

const cleanName = (name) => name.replace(/\s+/g, " ").trim() || "text";

/** Returns the extension, as the language of the code block. */
function languageOf(name) {
  const extension = /\.([A-Za-z][\w+#-]{0,9})$/.exec(cleanName(name));
  return extension && extension[1].toLowerCase() !== "txt" ? extension[1].toLowerCase() : "";
}
