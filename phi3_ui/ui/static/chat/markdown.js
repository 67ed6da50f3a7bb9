/**
 * Renders an answer as HTML: GitHub Flavored Markdown with mathematics, but without raw HTML, which is shown as text.
 * Each block has its own text direction.
 */
import markdownIt from "../../vendor/markdown-it.js";
import LateLibrary from "./late_library.js";
import addMath from "./math.js";

const CONTAINERS = /^(bullet_list|ordered_list|blockquote|table)_open$/;
const LEAVES = /^(paragraph|heading|th|td)_open$/;
const RIGHT_TO_LEFT =
  /[\p{Script=Adlam}\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Nko}\p{Script=Syriac}\p{Script=Thaana}]/u;
const WEB_HOST = /^\.[\p{L}\p{N}-]+\.[\p{L}\p{N}]/u;

// Links to local files and blobs are left out; of data URLs, only images are drawn.
const LINKED = /^(?:(?:https?|ftp|mailto|tel|data):|(?![a-z][a-z\d+.-]*:))/i;

const highlighting = new LateLibrary(async () => (await import("../../vendor/highlight.js")).default);
const markdown = markdownIt({ html: false, linkify: true, breaks: true });
const { validateLink } = markdown;
markdown.validateLink = (url) => LINKED.test(url.trim()) && validateLink(url);
markdown.use(addMath);
markdown.inline.ruler.before("strikethrough", "tildes", parseTildes);
addAutolinks(markdown);
markdown.core.ruler.after("inline", "tasks", markTasks);
markdown.core.ruler.push("directions", setDirections);
Object.assign(markdown.renderer.rules, {
  link_open: drawLink,
  image: drawImage,
  code_inline: (tokens, index) => `<code dir="ltr">${markdown.utils.escapeHtml(tokens[index].content)}</code>`,
  code_block: (tokens, index) => drawCode(tokens[index].content),
  fence: (tokens, index, _options, { redraw }) => {
    const { content, info } = tokens[index];
    return drawCode(content, info.trim().split(/\s+/)[0], redraw);
  },
  ordered_list_open: drawOrderedList,
  table_open: (tokens, index, options, _env, self) => {
    const direction = tokens[index].attrGet("dir");
    const attribute = direction ? ` dir="${direction}"` : "";
    return `<div class="phi3-table"${attribute} tabindex="0">${self.renderToken(tokens, index, options)}`;
  },
  table_close: () => "</table></div>",
});

/**
 * Returns the HTML of each block of a text, in order. Each is one element. While a library is being fetched, code has no
 * colours and mathematics is shown as TeX; `redraw` is called once it is loaded.
 */
export default function renderBlocks(text, redraw) {
  const environment = { redraw };
  const blocks = [];
  let depth = 0;
  let first = 0;
  const tokens = markdown.parse(text, environment);
  tokens.forEach((token, index) => {
    depth += token.nesting;
    if (depth) return;
    const block = tokens.slice(first, index + 1);
    blocks.push(markdown.renderer.render(block, markdown.options, environment).trim());
    first = index + 1;
  });
  return blocks;
}

/** Links what GitHub links: URLs with a scheme or "www.", and e-mail addresses; not "README.md". */
function addAutolinks({ linkify }) {
  const { linkify: original } = markdownIt();
  const measure = (text, position) => {
    const length = original.testSchemaAt(text, "http:", position);
    const end = position + length;
    const reference = text[end] === ";" ? 1 : 0; // possibly the end of "&amp;"
    return length && Math.min(length, trimAddress(text.slice(position, end + reference)).length);
  };
  linkify.set({ fuzzyLink: false, fuzzyEmail: true });
  linkify.add("//");
  for (const scheme of ["http:", "https:", "ftp:"]) linkify.add(scheme, { validate: measure });
  linkify.add("www", {
    validate: (text, position) => {
      const rest = text.slice(position);
      return WEB_HOST.test(rest) ? measure(`//www${rest}`, 0) - "//www".length : 0;
    },
    normalize: (match) => match.url = `http://${match.url}`,
  });
}

/** Trims what ends the sentence, the emphasis or a parenthesis opened before the URL; and character references. */
function trimAddress(address) {
  for (;;) {
    const trimmed = address.replace(/(&[a-z\d]+;)+$/i, "").replace(/[?!.,:*_~'";]+$/, "");
    const isUnbalanced = trimmed.endsWith(")") && trimmed.split(")").length > trimmed.split("(").length;
    if (!isUnbalanced) return trimmed;
    address = trimmed.slice(0, -1);
  }
}

/** Three or more tildes are text: GitHub strikes out with one or two, we only with two. */
function parseTildes(state, silent) {
  const start = state.pos;
  let end = start;
  while (end < state.posMax && state.src[end] === "~") end++;
  if (end - start < 3) return false;
  if (!silent) state.pending += state.src.slice(start, end);
  state.pos = end;
  return true;
}

/** Turns `[ ]` and `[x]` at the start of a list item into checkboxes. */
function markTasks(state) {
  state.tokens.forEach((token, index) => {
    const item = state.tokens[index - 2];
    if (token.type !== "inline" || item?.type !== "list_item_open") return;
    const task = /^\[([ xX])\]\s/.exec(token.content);
    const text = token.children[0];
    if (!task || text?.type !== "text" || !text.content.startsWith(`[${task[1]}]`)) return;
    text.content = text.content.slice(3);
    const box = new state.Token("html_inline", "", 0);
    const checked = task[1] === " " ? "" : " checked";
    box.content = `<input type="checkbox" disabled${checked} aria-label="${checked ? "☑" : "☐"}">`;
    token.children.unshift(box);
    item.attrJoin("class", "phi3-task");
  });
}

/**
 * Paragraphs, headings and cells leave their direction to the browser; their containers follow their first text. So do the
 * items of a list, whose numbers are all on one side: text.css gives the text of each item its own direction.
 */
function setDirections({ tokens }) {
  const open = [];
  for (const token of tokens) {
    if (CONTAINERS.test(token.type)) open.push(token);
    if (token.nesting < 0 && open.at(-1)?.type === token.type.replace("close", "open")) open.pop();
    if (LEAVES.test(token.type)) token.attrSet("dir", "auto");
    if (token.type !== "inline") continue;
    const text = token.children.map((child) => child.type === "text" ? child.content : "").join("");
    const letter = /\p{L}/u.exec(text);
    if (!letter) continue;
    const direction = RIGHT_TO_LEFT.test(letter[0]) ? "rtl" : "ltr";
    open.splice(0).forEach((container) => container.attrSet("dir", direction));
  }
}

/** Draws a list with room for numbers of more than two digits. */
function drawOrderedList(tokens, index, options, _env, self) {
  const list = tokens[index];
  const isItem = ({ type, level }) => type === "list_item_open" && level === list.level + 1;
  const end = tokens.findIndex(({ type, level }, n) =>
    n > index && type === "ordered_list_close" && level === list.level
  );
  const count = tokens.slice(index, end).filter(isItem).length;
  const digits = String(Number(list.attrGet("start") ?? 1) + count - 1).length;
  if (digits > 2) list.attrSet("style", `padding-inline-start: ${digits + 1.5}ch`);
  return self.renderToken(tokens, index, options);
}

function drawLink(tokens, index, options, _env, self) {
  tokens[index].attrSet("target", "_blank");
  tokens[index].attrSet("rel", "noopener noreferrer");
  return self.renderToken(tokens, index, options);
}

/** Draws an image that is part of the text, or a link to one elsewhere: the page loads nothing from other hosts. */
function drawImage(tokens, index, options, env, self) {
  const { escapeHtml } = markdown.utils;
  const token = tokens[index];
  const source = escapeHtml(token.attrGet("src"));
  const text = escapeHtml(self.renderInlineAsText(token.children, options, env)) || source;
  if (/^data:/i.test(source)) return `<img src="${source}" alt="${text}">`;
  const opened = tokens.slice(0, index).reduce(
    (depth, { type }) => depth + (type === "link_open") - (type === "link_close"),
    0,
  );
  return opened ? text : `<a href="${source}" target="_blank" rel="noopener noreferrer">${text}</a>`;
}

function drawCode(code, language = "", redraw = null) {
  const highlighter = language ? highlighting.get(redraw) : null;
  const html = highlighter?.getLanguage(language)
    ? highlighter.highlight(code, { language }).value
    : markdown.utils.escapeHtml(code);
  const name = language && ` data-language="${markdown.utils.escapeHtml(language)}"`;
  return `<div class="phi3-code" dir="ltr"${name}><pre tabindex="0"><code>${html}</code></pre></div>`;
}
