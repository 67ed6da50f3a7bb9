// Reads JSON lines with rows and a query; for each, writes a JSON line with the matching rows.
import { describe, matches } from "../../../phi3_ui/ui/static/models/filter.js";

const decoder = new TextDecoder();
let text = "";
for await (const chunk of Deno.stdin.readable) {
  text += decoder.decode(chunk, { stream: true });
}
const { group, rows, queries } = JSON.parse(text);
const described = rows.map((row) => describe(group, row));
console.log(
  JSON.stringify(
    queries.map((query) => described.map((one) => matches(one, query))),
  ),
);
