// Answers each line of its input, a text as JSON, with the blocks that static/chat/markdown.js makes of it.
import renderBlocks from "../../../phi3_ui/ui/static/chat/markdown.js";

let rest = "";
for await (const piece of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + piece).split("\n");
  rest = lines.pop();
  for (const line of lines) console.log(JSON.stringify(renderBlocks(JSON.parse(line))));
}
