// llama.cpp over a GGUF file, for bench/llama.py: node llama.mjs MODULES GGUF THREADS CONTEXT
//
// In: a line {prompt, tokens} each. Out: {ready: true}, then for each {text, tokens, rate, first} or {error}: greedy, at
// most so many tokens, tokens/s from the first to the last, seconds to the first. As in a LlamaChatSession, what the one
// context sequence has read of a prompt stays for the next that begins alike.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [modules, gguf, threads, contextSize] = process.argv.slice(2);
const { getLlama } = await import(pathToFileURL(`${modules}/node-llama-cpp/dist/index.js`).href);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: Number(threads), logLevel: "error" });
const model = await llama.loadModel({ modelPath: gguf });
const context = await model.createContext({ contextSize: Number(contextSize), threads: Number(threads) });
const sequence = context.getSequence();

async function answer({ prompt, tokens }) {
  const started = performance.now();
  const ids = model.tokenize(prompt, true);
  await sequence.adaptStateToTokens(ids, false);
  const written = [], times = [];
  for await (const id of sequence.evaluate(ids.slice(sequence.nextTokenIndex), { temperature: 0 })) {
    times.push((performance.now() - started) / 1000);
    written.push(id);
    if (written.length === tokens) break;
  }
  const seconds = times.at(-1) - times[0];
  return { text: model.detokenize(written), tokens: written.length, rate: (written.length - 1) / seconds, first: times[0] };
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  try {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
process.exit(0);
