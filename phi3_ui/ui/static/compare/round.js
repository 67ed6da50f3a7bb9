/** One round: the question, and the answers side by side. */
import addHeads, { watchOverflow } from "../chat/code.js";
import drawIcon from "../chat/icons.js";
import drawQuestion from "../chat/question.js";
import renderBlocks from "../chat/markdown.js";
import { createElement, createIconButton } from "../dom.js";
import createVoteBar, { LETTERS } from "./vote.js";

export default class Round {
  constructor(texts, act, vote) {
    Object.assign(this, { texts, act, vote });
    this.question = createElement("h3", "question", { dir: "auto" });
    this.duel = createElement("div", "duel");
    this.foot = createElement("div", "foot");
    this.node = createElement("section", "round", {}, this.question, this.duel, this.foot);
    this.sides = [];
    this.drawn = "";
  }

  /** The vote buttons of the newest round are drawn by view.js. */
  update(round, isNewest) {
    const drawn = JSON.stringify([round, isNewest]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    if (this.asked !== round.question) drawQuestion(this.question, round.question);
    this.asked = round.question;
    if (this.sides.length !== round.sides.length) {
      this.sides = round.sides.map((_, place) => new Side(this.texts, place, this.act));
      this.duel.replaceChildren(...this.sides.map(({ node }) => node));
      this.duel.style.setProperty("--sides", this.sides.length);
    }
    round.sides.forEach((side, place) => this.sides[place].update(side, round.running));
    const bar = !isNewest && round.choices.length ? createVoteBar(this.texts, round, this.vote, false).node : null;
    this.foot.replaceChildren(...[round.note && createElement("p", "voted", {}, round.note), bar].filter(Boolean));
  }

  /** Returns the answers as text, for screen readers. */
  read() {
    return this.sides.map(({ title, text }) => `${title.textContent}: ${text.textContent}`.slice(0, 1000));
  }
}

class Side {
  constructor(texts, place, act) {
    const letter = LETTERS[place];
    const fill = (key) => texts[key].replace("{letter}", letter);
    this.texts = texts;
    this.badge = createElement("span", "phi3-badge", { "aria-hidden": "true" }, letter);
    this.title = createElement("h4", "", {}, fill("compare.answer"));
    this.model = createElement("b", "model");
    this.engine = createElement("span", "phi3-chip engine");
    this.state = createElement("span", "phi3-chip state");
    this.stop = createIconButton(drawIcon("stop"), fill("compare.stop.side"));
    this.stop.addEventListener("click", () => act("stop", { place }));
    this.text = createElement("div", "phi3-written");
    this.error = createElement("p", "phi3-error");
    this.metrics = createElement("p", "phi3-quiet metrics");
    this.blocks = [];
    const header = createElement(
      "header",
      "",
      {},
      this.badge,
      this.title,
      this.model,
      this.engine,
      createElement("span", "push", {}, this.state, this.stop),
    );
    const body = createElement("div", "body", {}, this.text, this.error, this.metrics);
    this.node = createElement("article", "side", { "aria-label": fill("compare.answer") }, header, body);
    this.redraw = () => this.drawText(this.content, true);
  }

  update({ text, state, model = "", badge, metrics = "", error = "", standing = "" }, isRunning) {
    this.drawText(text, !isRunning);
    const isBest = standing === "won";
    this.node.classList.toggle("best", isBest);
    this.state.textContent = isBest ? this.texts["compare.winner"] : state;
    this.stop.hidden = !isRunning;
    this.model.textContent = model;
    this.engine.textContent = badge?.short ?? "";
    this.engine.title = badge?.engine ?? "";
    this.engine.hidden = !badge;
    this.error.textContent = error;
    this.metrics.textContent = metrics;
  }

  /** Replaces only the blocks that differ, so that a selection in the text above stays while the answer grows. */
  drawText(content, isComplete) {
    const blocks = renderBlocks(content, this.redraw);
    this.content = content;
    let same = 0;
    while (same < blocks.length && blocks[same] === this.blocks[same]) same++;
    while (this.text.children.length > same) this.text.lastElementChild.remove();
    const template = document.createElement("template");
    template.innerHTML = blocks.slice(same).join("");
    watchOverflow(template.content);
    if (isComplete) addHeads(template.content, this.texts);
    this.text.append(template.content);
    this.blocks = isComplete ? blocks : blocks.map((html) => html.includes("phi3-code") ? "" : html);
  }
}
