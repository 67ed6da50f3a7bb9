// Reads texts as JSON lines; for each, writes the blocks that static/chat/markdown.js renders once its libraries are loaded.
import renderBlocks from "../../../phi3_ui/ui/static/chat/markdown.js";

async function loadLibraries() {
  for (const text of ["```js\n1\n```", "$$x$$"]) await new Promise((done) => renderBlocks(text, done));
}

await loadLibraries();
let rest = "";
for await (const piece of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + piece).split("\n");
  rest = lines.pop();
  for (const line of lines) console.log(JSON.stringify(renderBlocks(JSON.parse(line))));
}
