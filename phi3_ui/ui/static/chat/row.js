/** One message: its text and its caption; and, once it is near the view, its buttons and its time. */
import LOCALE from "../locale.js";
import drawCaption, { drawToolbar } from "./caption.js";
import addHeads, { watchOverflow } from "./code.js";
import { copyButton } from "./copy.js";
import { create } from "./dom.js";
import createEditor from "./edit.js";
import renderBlocks from "./markdown.js";
import drawQuestion, { labelFiles } from "./question.js";

const DAY = 86_400_000; // milliseconds
const FORMATS = [{ timeStyle: "short" }, { dateStyle: "medium", timeStyle: "short" }].map(
  (options) => new Intl.DateTimeFormat(LOCALE, options),
);

/** Returns the identity of a row across changes of the messages. */
export const identify = ({ role, turn, caption }) => turn ? `${role} ${turn}` : `${role} ${caption?.kind ?? ""}`;

export class Row {
  /** `ui`: the texts, createMore of menu.js, and onResize, which is called when the text is redrawn without an update. */
  constructor({ role, turn, caption }, ui) {
    this.ui = ui;
    this.role = role;
    this.message = { content: "" };
    this.drawn = "";
    this.blocks = [];
    this.copy = null; // until the buttons are shown
    const isNote = ["cut", "switch", "undone", "continued"].includes(caption?.kind);
    const isQuestion = this.isQuestion = role === "user" && !isNote;
    const { texts } = ui;
    this.node = isNote
      ? create("div", "message-row phi3-note-row")
      : create("article", `message-row ${isQuestion ? "user-row" : "bot-row"}`, {
        "aria-label": isQuestion ? texts.question : texts.answer,
      });
    if (turn) this.node.dataset.turn = turn;
    this.body = isQuestion || isNote ? this.node : create("div", "phi3-body");
    this.text = create("div", isQuestion ? "phi3-typed" : "phi3-written", {
      "data-testid": isQuestion ? "user" : "bot",
    });
    if (isQuestion) this.text.dir = "auto";
    this.redraw = () => {
      this.drawBlocks(renderBlocks(this.message.content, this.redraw));
      ui.onResize();
    };
  }

  /** Adds the buttons. Most elements of a chat are buttons, so messages far from the view have none. */
  showButtons() {
    if (this.copy) return;
    this.copy = copyButton(this.ui.texts, this.ui.texts.copy_message, () => this.message.content);
    addHeads(this.text, this.ui.texts);
    this.addCopy();
    this.addToolbar();
  }

  update(message) {
    const drawn = JSON.stringify(message);
    if (drawn === this.drawn) return;
    const { content, caption } = message;
    if (content !== this.message.content) {
      if (this.isQuestion) drawQuestion(this.text, content);
      else this.drawBlocks(renderBlocks(content, this.redraw));
    }
    if (this.isQuestion) labelFiles(this.text, message.files);
    if (this.body !== this.node && !this.body.isConnected) this.node.append(...badge(message.badge), this.body);
    const hasText = content !== "" && caption?.kind !== "continued"; // whose text is the app's
    if (hasText !== this.text.isConnected && !this.editor) {
      if (hasText) this.body.prepend(this.text);
      else this.text.remove();
    }
    const isCaptionNew = JSON.stringify(caption) !== JSON.stringify(this.message.caption);
    this.message = JSON.parse(drawn);
    this.drawn = drawn;
    if (isCaptionNew) {
      this.caption?.remove();
      this.caption = caption ? drawCaption(caption) : null;
      if (this.caption) this.body.append(this.caption);
      this.addToolbar();
    }
    this.addCopy();
  }

  addToolbar() {
    const { caption, content } = this.message;
    if (this.copy && caption?.kind === "answer") {
      this.caption.lastChild.before(drawToolbar(caption, content === "" ? null : this.copy, this.ui));
    }
  }

  addCopy() {
    if (!this.isQuestion || !this.copy || this.copy.isConnected || this.editor) return;
    this.node.append(this.copy);
    if (this.message.time) this.node.append(drawTime(this.message.time));
  }

  /** Replaces only the blocks that differ, so that a selection in the text above stays while the answer grows. */
  drawBlocks(blocks) {
    let same = 0;
    while (same < blocks.length && blocks[same] === this.blocks[same]) same++;
    while (this.text.children.length > same) this.text.lastElementChild.remove();
    const template = document.createElement("template");
    template.innerHTML = blocks.slice(same).join("");
    watchOverflow(template.content);
    if (this.copy) addHeads(template.content, this.ui.texts);
    this.text.append(template.content);
    this.blocks = blocks;
  }

  /** Edits the question in its bubble; `onEnd` takes care of the focus afterwards. */
  edit(onEnd) {
    if (this.editor) return this.editor.focus();
    const end = () => {
      this.editor.form.replaceWith(this.text);
      this.editor = null;
      onEnd();
    };
    const send = (text) => globalThis.phi3PerformAction("edit", this.message.turn, text);
    this.editor = createEditor(this.message.content, this.ui.texts, send, end);
    this.text.replaceWith(this.editor.form);
    this.editor.focus();
  }
}

function badge(shown) {
  return shown ? [create("span", "phi3-badge", { title: shown.engine }, shown.short)] : [];
}

/** Draws `seconds` since the epoch in the visitor's time zone; with the date unless it is less than a day ago. */
function drawTime(seconds) {
  const moment = new Date(1000 * seconds);
  const text = FORMATS[Date.now() - moment > DAY ? 1 : 0].format(moment);
  return create("time", "phi3-time", { datetime: moment.toISOString(), title: FORMATS[1].format(moment) }, text);
}
