/** Reads cases from stdin, joins and splits each, and writes the results. */
import { joinBlocks, joinFiles, splitFiles } from "../../../phi3_ui/ui/static/attached_files.js";
import readText, { RefusedFile } from "../../../phi3_ui/ui/static/composer/read_text.js";
import { changedNames, findPreset } from "../../../phi3_ui/ui/static/settings/state.js";

const cases = JSON.parse(await new Response(Deno.stdin.readable).text());
const questions = cases.questions.map(({ files, typed }) => {
  const text = joinFiles(files, typed);
  const split = splitFiles(text);
  return { text, split, again: joinBlocks(split.files.map(({ block }) => block), split.rest) };
});
const typed = cases.typed.map((text) => splitFiles(text));
const read = [];
for (const bytes of cases.files) {
  const file = new File([new Uint8Array(bytes)], "a.txt");
  read.push(await readText(file).catch((error) => error instanceof RefusedFile ? { refused: error.message } : String(error)));
}
const settings = cases.settings.map((values) => [findPreset(cases.table, values), changedNames(cases.table, values)]);
console.log(JSON.stringify({ questions, typed, read, settings }));
