// llama.cpp over a GGUF file, for bench/llama.py: node llama.mjs MODULES GGUF THREADS CONTEXT
//
// Input: one JSON object per line. {prompt, tokens}: answers greedily, with at most `tokens` tokens; output {text, tokens, rate,
// first, times} or {error}, where `rate` is tokens/s from the first to the last token, and `first` the seconds to the first token.
// {prompts, tokens}: answers in parallel; output {rate, first}, where `rate` is the total tokens/s while all are decoding, and
// `first` the seconds until the last one has started. The first output line is {ready: true}. As in a LlamaChatSession, the
// single context sequence keeps the evaluated prefix of a prompt for the next prompt that starts with it.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [modules, gguf, threads, contextSize] = process.argv.slice(2);
const { getLlama } = await import(pathToFileURL(`${modules}/node-llama-cpp/dist/index.js`).href);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: Number(threads), logLevel: "error" });
const model = await llama.loadModel({ modelPath: gguf });
const context = await model.createContext({ contextSize: Number(contextSize), threads: Number(threads) });
const sequence = context.getSequence();
let parallel; // sequences of one context, which computes them in one batch

async function answerAll({ prompts, tokens }) {
  if (!parallel) {
    const shared = await model.createContext({ contextSize: 1024, sequences: prompts.length, threads: Number(threads) });
    parallel = prompts.map(() => shared.getSequence());
  }
  const started = performance.now();
  const answers = await Promise.all(prompts.map((prompt, at) => answer({ prompt, tokens }, parallel[at], started)));
  const first = Math.max(...answers.map(({ times }) => times[0])), last = Math.min(...answers.map(({ times }) => times.at(-1)));
  const written = answers.map(({ times }) => times.filter((at) => at > first && at <= last).length);
  return { rate: written.reduce((sum, one) => sum + one, 0) / (last - first), first };
}

async function answer({ prompt, tokens }, sequence, started = performance.now()) {
  const ids = model.tokenize(prompt, true);
  await sequence.adaptStateToTokens(ids.slice(0, -1), false); // the last one is computed again, for its logits
  const written = [], times = [];
  for await (const id of sequence.evaluate(ids.slice(sequence.nextTokenIndex), { temperature: 0 })) {
    times.push((performance.now() - started) / 1000);
    written.push(id);
    if (written.length === tokens) break;
  }
  const seconds = times.at(-1) - times[0];
  return { text: model.detokenize(written), tokens: written.length, rate: (written.length - 1) / seconds, first: times[0], times };
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  try {
    const asked = JSON.parse(line);
    console.log(JSON.stringify(await (asked.prompts ? answerAll(asked) : answer(asked, sequence))));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
process.exit(0);
