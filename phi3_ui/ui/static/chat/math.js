/**
 * TeX in Markdown: `\( … \)`, `\[ … \]`, `$$ … $$` and `$ … $`, drawn by KaTeX.
 *
 * A dollar is more often part of a price or a shell variable than of mathematics, so a single one opens a formula only as
 * in Pandoc: it is not followed by a space, and the closing one is neither preceded by a space nor followed by a digit. Nor
 * does it enclose prose, or what is between two variables, as in `$HOME/$USER`, `${a}-${b}` and `$(a)/$(b)`. Code has
 * precedence: a formula does not end inside a code span.
 */
import LateLibrary from "./late_library.js";

const OPTIONS = {
  throwOnError: true,
  strict: "ignore",
  trust: false,
  maxExpand: 1000,
  maxSize: 20,
};
const BEFORE_PRICE = /[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{N}$]/u; // as in "US$5"
const BETWEEN_VARIABLES = /^$|[/:]$|[^\^_]-$/; // what a formula does not end with, but the part between the dollars of `$HOME/$USER` does
const VARIABLE = /^(\{\w{2,}\}(?![\^_])|[?!@#*]$)/; // the rest of `${name}` and `$?`
const DELIMITERS = [["\\(", "\\)", false], ["\\[", "\\]", true], ["$$", "$$", true]];
const MAX_DRAWN = 500;
const MAX_SOURCE = 5000; // characters of a formula: KaTeX takes a tenth of a millisecond per character
const typesetting = new LateLibrary(async () => {
  loadStyles("../../vendor/katex/katex.css");
  await import("../../vendor/katex/katex.js");
  return globalThis.katex;
});
const drawn = new Map();
const known = new WeakMap();

export default function addMath(markdown) {
  markdown.inline.ruler.before("escape", "math", parseInline);
  markdown.block.ruler.before("fence", "math_block", parseBlock, {
    alt: ["paragraph", "reference", "blockquote", "list"],
  });
  const { rules } = markdown.renderer;
  rules.math = (tokens, index, _options, { redraw }) => drawMath(tokens[index], markdown.utils.escapeHtml, redraw);
  rules.math_block = (...token) => `<div class="phi3-math">${rules.math(...token)}</div>`;
}

function parseInline(state, silent) {
  const found = findMath(state);
  if (!found) return false;
  if (!silent) {
    const token = state.push("math", "", 0);
    token.content = found.tex;
    token.markup = found.open;
    token.meta = found;
  }
  state.pos = found.end;
  return true;
}

/** Returns the formula that begins at `start`, or nothing. */
function findMath(state) {
  const { src: source, pos: start, posMax: limit } = state;
  for (const [open, close, isDisplay] of DELIMITERS) {
    if (!source.startsWith(open, start)) continue;
    const end = findClose(state, close, start + open.length);
    if (end < 0) break;
    const tex = source.slice(start + open.length, end);
    const after = end + close.length;
    if (!tex.trim() || cutsCode(tex) || open === "$$" && isShell(tex, source[after])) return undefined;
    return { tex, open, close, isDisplay, end: after };
  }
  if (source[start] !== "$" || source[start + 1] === "$") return undefined;
  if (start > 0 && BEFORE_PRICE.test(source[start - 1])) return undefined;
  const end = findUnescaped(source, "$", start + 1, limit);
  const written = end < 0 ? "" : source.slice(start + 1, end);
  const [, tick, tex] = /^(`?)(.*)\1$/s.exec(written); // GitHub also writes $`…`$
  if (!tex || /^\s|\s$|\n/.test(tex) || tex.includes("`") || isProse(tex)) return undefined;
  if (!canClose(tex, source[end + 1])) return undefined;
  return { tex, open: `$${tick}`, close: `${tick}$`, isDisplay: false, end: end + 1 };
}

/** Whether `tex` ends inside a code span that begins in it. */
function cutsCode(tex) {
  return tex.split("`").length % 2 === 0;
}

/** Returns the next unescaped position of `close`, or -1, which is cached: there may be many openings without an end. */
function findClose(state, close, from) {
  const missing = remember(state);
  if (from >= (missing.get(close) ?? Infinity)) return -1;
  const end = findUnescaped(state.src, close, from, state.posMax);
  if (end < 0 && state.posMax === state.src.length) missing.set(close, from);
  return end;
}

/** Returns the cache for the text that `state` parses. */
function remember(state) {
  if (!known.has(state)) known.set(state, new Map());
  return known.get(state);
}

/** Returns the next position of `text` that is not escaped by a backslash, or -1. */
function findUnescaped(source, text, from, limit) {
  for (let at = source.indexOf(text, from); at >= 0 && at + text.length <= limit; at = source.indexOf(text, at + 1)) {
    let backslashes = 0;
    while (source[at - 1 - backslashes] === "\\" && at - 1 - backslashes >= from) backslashes++;
    if (backslashes % 2 === 0) return at;
  }
  return -1;
}

/** Whether this is the text between two prices, as in "$5 to 10$", or between a variable and a price. */
function isProse(tex) {
  if (/^\d/.test(tex) && /\p{L}{2,}|\p{Lo}|[,;:)]\s/u.test(tex) && !/[\\^_={}]/.test(tex)) return true;
  return !/\\|\^/.test(tex) && (hasWords(tex) || tex.includes('"') || !isBalanced(tex));
}

/** Whether there are adjacent words, which TeX would join. */
function hasWords(tex) {
  return /\p{L}{2,}[:;]?\s+\(?[\p{L}\p{N}]|[\p{L}\p{N})]\s+\(?\p{L}{2,}/u.test(tex);
}

/** Whether as many parentheses are opened as are closed; those of half-open intervals differ in kind. */
function isBalanced(tex) {
  return tex.split(/[([]/).length === tex.split(/[)\]]/).length;
}

/** Whether the double dollars around `tex`, before the character `next`, are process ids or variables of make. */
function isShell(tex, next = "") {
  return /[A-Z_({]/.test(next) || !/[\\^]/.test(tex) && (/[a-z\d]/.test(next) || hasWords(tex));
}

/**
 * Whether a single dollar between `tex` and the character `next` ends a formula: in "$n$th" it does, in "$HOME/$USER" it does
 * not. In scripts without capitals, words may follow without a space.
 */
function canClose(tex, next = "") {
  if (/[\p{N}$({]/u.test(next) || BETWEEN_VARIABLES.test(tex) || VARIABLE.test(tex)) return false;
  if (!/\p{L}/u.test(next) || /\p{Lo}/u.test(next)) return true;
  return /\p{Ll}/u.test(next) && /^\p{L}$|[\\^_].*[\p{L}\p{N})\]}]$/u.test(tex);
}

/**
 * Parses a formula that begins a line: nothing in it is a list, a heading or a quote. It may have empty lines if its delimiter
 * is alone on its line. Text after it on its last line is a separate block.
 */
function parseBlock(state, startLine, endLine, silent) {
  const start = state.bMarks[startLine] + state.tShift[startLine];
  if (state.sCount[startLine] - state.blkIndent >= 4) return false;
  const delimiter = DELIMITERS.find(([open, , isDisplay]) => isDisplay && state.src.startsWith(open, start));
  if (!delimiter) return false;
  const [open, close] = delimiter;
  const found = findBlockEnd(state, startLine, endLine, open, close);
  if (!found) return false;
  const { line, end } = found;
  const rest = state.src.slice(end + close.length, state.eMarks[line]);
  const hasRest = rest.trim() !== "";
  if (hasRest && line === startLine) return false; // a sentence that begins with a formula
  const lines = state.getLines(startLine, line + 1, state.blkIndent, false);
  const tex = lines.slice(lines.indexOf(open) + open.length, lines.length - rest.length - close.length);
  if (!tex.trim() || open === "$$" && isShell(tex, rest[0])) return false;
  if (silent) return true;
  const token = state.push("math_block", "", 0);
  token.block = true;
  token.map = [startLine, line + 1];
  token.content = tex;
  token.meta = { tex, open, close, isDisplay: true };
  state.line = line + 1;
  if (hasRest) {
    state.line = line;
    state.bMarks[line] = end + close.length;
    state.tShift[line] = rest.length - rest.trimStart().length;
    state.sCount[line] = state.blkIndent;
  }
  return true;
}

/** Returns the line that closes a formula, and the position of `close`; nothing if there is none, which is cached. */
function findBlockEnd(state, startLine, endLine, open, close) {
  const start = state.bMarks[startLine] + state.tShift[startLine] + open.length;
  const isAlone = !state.src.slice(start, state.eMarks[startLine]).trim();
  // A formula that begins before the line up to which another one of this kind found no end does not find one either.
  const missing = remember(state);
  const kind = [close, isAlone, state.blkIndent, endLine].join();
  if (startLine < (missing.get(kind) ?? 0)) return undefined;
  let line = startLine;
  for (; line < endLine; line++) {
    if (state.isEmpty(line) ? !isAlone : line > startLine && state.sCount[line] < state.blkIndent) break;
    const from = line === startLine ? start : state.bMarks[line] + state.tShift[line];
    const text = state.src.slice(from, state.eMarks[line]);
    const end = findUnescaped(text, close, 0, text.length);
    if (end >= 0) return { line, end: from + end };
  }
  missing.set(kind, line);
  return undefined;
}

/** Returns KaTeX's HTML, or the source if it is too long, if KaTeX cannot parse it, or while KaTeX is not loaded. */
function drawMath({ meta: { tex, open, close, isDisplay } }, escapeHtml, redraw) {
  const source = open + tex + close;
  if (source.length > MAX_SOURCE) return escapeHtml(source);
  if (drawn.has(source)) return drawn.get(source);
  const katex = typesetting.get(redraw);
  if (!katex) return escapeHtml(source);
  let html;
  try {
    const math = katex.renderToString(tex, { ...OPTIONS, displayMode: isDisplay });
    html = `<span dir="ltr">${math}</span>`;
  } catch (error) {
    if (!(error instanceof katex.ParseError)) console.error(error);
    html = escapeHtml(source);
  }
  if (drawn.size >= MAX_DRAWN) drawn.clear();
  drawn.set(source, html);
  return html;
}

function loadStyles(path) {
  const { document } = globalThis;
  if (!document) return; // in tests without a browser
  const link = document.createElement("link");
  Object.assign(link, { rel: "stylesheet", href: new URL(path, import.meta.url) });
  document.head.append(link);
}
