/**
 * Draws the chat from the component's value, a list of messages: `role`, `content` and, below an answer, its `caption`.
 *
 * A message's content is exactly what was typed or what the model wrote. A question is drawn as plain text; an answer's
 * HTML is made here and goes nowhere else: Copy takes the content.
 */
import renderBlocks from "./markdown.js";
import drawCaption from "./caption.js";
import drawQuestion from "./question.js";
import { copyButton } from "./copy.js";

const NEAR_END = 80; // pixels from the end within which the chat follows the text that arrives
const MAX_SHARE = 4; // drawing takes at most about a quarter of the time

export default function showChat(element, props, watch, texts) {
  loadStyles("../../vendor/katex/katex.css");
  const log = createElement("div", "phi3-log", { role: "log", "aria-live": "polite", "aria-label": texts.chat });
  const empty = createElement("p", "phi3-empty");
  element.append(empty, log);
  const rows = [];

  const draw = () => {
    const messages = props.value ?? [];
    const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
    const isAsked = messages.length > rows.length;
    empty.textContent = messages.length ? "" : texts.placeholder;
    while (rows.length > messages.length) rows.pop().node.remove();
    messages.forEach((message, index) => {
      if (rows[index]?.role !== message.role) {
        const row = new Row(message.role, texts);
        if (rows[index]) rows[index].node.replaceWith(row.node);
        else log.append(row.node);
        rows[index] = row;
      }
      rows[index].update(message);
    });
    if (isAtEnd || isAsked) log.scrollTop = log.scrollHeight;
  };

  watch("value", pace(draw));
  draw();
}

/** `action`, at most once a frame and not so often that it takes most of the time; the last call is never lost. */
function pace(action) {
  let isWaiting = false;
  let freeAt = 0;
  const run = () => {
    isWaiting = false;
    const start = performance.now();
    action();
    const end = performance.now();
    freeAt = end + (MAX_SHARE - 1) * (end - start);
  };
  return () => {
    if (isWaiting) return;
    isWaiting = true;
    const wait = freeAt - performance.now();
    if (document.hidden || wait > 0) setTimeout(run, Math.max(wait, 0)); // a hidden page draws no frames
    else requestAnimationFrame(run);
  };
}

/** One message: its text, a button that copies it, and its caption. */
class Row {
  constructor(role, texts) {
    this.role = role;
    this.message = { content: "" };
    this.blocks = [];
    const isQuestion = role === "user";
    this.node = createElement("div", `message-row ${isQuestion ? "user-row" : "bot-row"}`);
    this.text = createElement("div", isQuestion ? "phi3-typed" : "phi3-written", {
      "data-testid": isQuestion ? "user" : "bot",
    });
    if (isQuestion) this.text.dir = "auto";
    this.copy = copyButton(texts, texts.copy_message, () => this.message.content);
    this.texts = texts;
  }

  update(message) {
    const { content, caption } = message;
    if (content !== this.message.content) {
      if (this.role === "user") drawQuestion(this.text, content);
      else this.drawBlocks(renderBlocks(content));
    }
    const hasText = content !== "";
    if (hasText !== this.text.isConnected) {
      if (hasText) this.node.prepend(this.text);
      else this.text.remove();
    }
    if (JSON.stringify(caption) !== JSON.stringify(this.message.caption)) {
      this.caption?.remove();
      this.caption = caption ? drawCaption(caption, hasText ? this.copy : null) : null;
      if (this.caption) this.node.append(this.caption);
    }
    if (this.role === "user" && !this.copy.isConnected) this.node.append(this.copy);
    this.message = { content, caption: caption && JSON.parse(JSON.stringify(caption)) };
  }

  /** Replace what differs, so that a selection in the text above stays while the answer grows. */
  drawBlocks(blocks) {
    let same = 0;
    while (same < blocks.length && blocks[same] === this.blocks[same]) same++;
    while (this.text.children.length > same) this.text.lastElementChild.remove();
    const template = document.createElement("template");
    template.innerHTML = blocks.slice(same).join("");
    for (const code of template.content.querySelectorAll(".phi3-code")) {
      code.prepend(copyButton(this.texts, this.texts.copy_code, () => code.textContent.replace(/\n$/, "")));
    }
    this.text.append(template.content);
    this.blocks = blocks;
  }
}

function loadStyles(path) {
  const link = createElement("link", "", { rel: "stylesheet", href: new URL(path, import.meta.url) });
  document.head.append(link);
}

function createElement(tag, classes, attributes = {}) {
  const element = document.createElement(tag);
  element.className = classes;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
