/**
 * Draws a comparison from the component's value, a ComparisonView of render/compare.py as JSON; the view is closed while
 * the value is empty. One composer asks all sides; votes also come from the number keys, from 1.
 *
 * `trigger("input", …)` asks a question, `trigger("edit", …)` counts one, `trigger("click", { name, … })` does everything else. Other scripts use
 * `globalThis.phi3Compare`: `open()`.
 */
import drawIcon from "../chat/icons.js";
import { splitFiles } from "../attached_files.js";
import renderBlocks from "../chat/markdown.js";
import drawQuestion from "../chat/question.js";
import Attachments from "../composer/attachments.js";
import acceptFiles from "../composer/drop_files.js";
import { createElement, createIconButton } from "../dom.js";
import Round from "./round.js";
import createSides from "./sides.js";
import createVoteBar from "./vote.js";
import createVoteKeys from "./vote_keys.js";

const COUNT_AFTER = 300; // milliseconds after the last key

export default function showComparison({ element, props, watch, trigger, texts, data: presets }) {
  const act = (name, more = {}) => trigger("click", { name, ...more });
  const isOpen = () => document.querySelector("#phi3-centre").dataset.view === "compare";
  let shown = null; // the last received view, with all rounds
  let rounds = new Map(); // by id
  let latest = 0; // time of that view: responses may overtake each other
  let isBlind = true;
  let asked = null; // the question that was sent but is not yet accepted
  let wasRunning = false;
  let bar = null; // vote buttons of the newest round, if it can be voted on

  // The head

  const blind = createElement("button", "phi3-chip phi3-blind", {
    type: "button",
    title: texts["compare.blind.switch"],
  });
  const drawBlind = () => {
    blind.replaceChildren(drawIcon("eye"), texts[isBlind ? "compare.blind" : "compare.blind.off"]);
    blind.setAttribute("aria-pressed", String(isBlind));
  };
  blind.addEventListener("click", () => {
    isBlind = !isBlind;
    drawBlind();
  });
  const sides = createSides(texts, presets, () => count());
  const save = createIconButton(drawIcon("share"), texts["compare.save"]);
  save.addEventListener("click", () => act("save"));
  const again = createIconButton(drawIcon("edit"), texts["compare.new"]);
  again.addEventListener("click", () => {
    act("new");
    box.focus();
  });
  const ratings = createElement(
    "button",
    "phi3-action phi3-ghost",
    { type: "button", name: "ratings", value: "" },
    texts.ratings,
  );
  const done = createElement("button", "phi3-ghost phi3-close", { type: "button" }, texts["compare.done"]);
  done.addEventListener("click", () => act("close"));
  const head = createElement(
    "header",
    "head",
    {},
    createElement("h2", "", { tabindex: "-1" }, texts.compare),
    blind,
    createElement("div", "push", {}, again, save, sides.button, sides.panel, ratings, done),
  );

  // The rounds

  const empty = createElement("p", "about", {}, texts["compare.about"]);
  const list = createElement("div", "rounds", {
    role: "log",
    "aria-live": "off",
    "aria-label": texts.compare,
    tabindex: "0",
  });
  const announcer = createElement("div", "phi3-announcer", { role: "status" });
  const history = createElement("details", "history");
  list.append(history, empty);

  // The dock

  const note = createElement("p", "phi3-quiet");
  const box = createElement("textarea", "", {
    rows: "1",
    "aria-label": texts.message,
    placeholder: texts["compare.ask"],
    id: "phi3-compare-message",
  });
  const send = createIconButton(drawIcon("send"), texts["compare.send"], { id: "phi3-compare-send" });
  const stop = createIconButton(drawIcon("stop"), texts["compare.stop"], { id: "phi3-compare-stop" });
  const votes = createElement("div", "votes");
  const files = new Attachments(texts, () => drawDraft(), { key: "phi3-compare-files", box: () => box });
  const picker = createElement("input", "", { type: "file", multiple: true, hidden: true, tabindex: -1 });
  picker.addEventListener("change", async () => {
    await files.add([...picker.files]);
    picker.value = "";
    box.focus();
  });
  const attach = createIconButton(drawIcon("attach"), texts.attach, { class: "phi3-icon attach" });
  attach.addEventListener("click", () => picker.click());
  const meter = createElement("span", "meter");
  const line = createElement("div", "line", {}, attach, picker, box, meter, send, stop);
  const warning = createElement("p", "warning");
  const composer = createElement("form", "box", {}, files.node, warning, line);
  acceptFiles(composer, texts, (dropped) => files.add(dropped), "#phi3-compare");
  const dock = createElement("div", "dock", {}, votes, composer, note);
  const root = createElement("section", "phi3-compare", { "aria-label": texts.compare }, head, list, dock, announcer);

  const isEmpty = () => box.value.trim() === "" && !files.count;
  const drawSend = () => send.setAttribute("aria-disabled", String(isEmpty()));
  const drawDraft = () => {
    drawSend();
    count();
  };

  // The draft's tokens, for the side whose context they fill most

  let timer;
  let counted = null;
  const count = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      if (!isOpen() || !shown || shown.running) return; // counted once it has ended
      const draft = { text: files.compose(box.value), files: files.data, sides: sides.read() };
      const key = JSON.stringify([
        draft.text,
        draft.sides,
        shown.id,
        shown.rounds.map(({ id, hidden }) => [id, hidden]),
      ]);
      if (key === counted) return;
      counted = key;
      trigger("edit", draft);
    }, COUNT_AFTER);
  };
  const source = document.querySelector("#phi3-compare-context");
  new MutationObserver(() => {
    const copies = (selector) => [...source.querySelectorAll(selector)].map((one) => one.cloneNode(true));
    meter.replaceChildren(...copies(".phi3-meter"));
    warning.replaceChildren(...copies(".phi3-context-warning, .phi3-remote"));
    const counts = source.querySelector("[data-files]")?.dataset.files;
    if (counts) files.showCounts(JSON.parse(counts));
  }).observe(source, { childList: true, subtree: true, attributes: true, characterData: true });

  const ask = () => {
    if (shown?.running || isEmpty()) return;
    asked = files.compose(box.value);
    announcer.textContent = "";
    trigger("input", { question: asked, blind: isBlind, sides: sides.read() });
  };
  composer.addEventListener("submit", (event) => event.preventDefault());
  send.addEventListener("click", ask);
  stop.addEventListener("click", () => act("stop"));
  box.addEventListener("input", drawDraft);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask();
  });

  const vote = (round, choice, reason) => {
    act("vote", { round, choice, reason });
    box.focus({ preventScroll: true });
  };
  const takeKey = createVoteKeys((key) => bar?.hasVote(key), (key) => bar?.press(key), box);
  document.addEventListener("keydown", (event) => {
    if (!isOpen() || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    if (document.querySelector("dialog[open], :popover-open")) return;
    if (event.key === "Escape" && shown?.running) act("stop");
    else if (event.target.closest?.("input, textarea, select, [contenteditable]") || !takeKey(event.key)) return;
    event.preventDefault();
  }, true);

  // Drawing

  const read = () => {
    if (!props.value) return null;
    const next = JSON.parse(props.value);
    if (next.at < latest) return shown;
    latest = next.at;
    if (!next.partial || shown?.id !== next.id) return next;
    const newer = new Map(next.rounds.map((round) => [round.id, round]));
    const kept = shown.rounds.filter(({ id }) => !newer.has(id));
    return { ...next, models: shown.models, rounds: [...kept, ...newer.values()] };
  };

  const draw = () => {
    const before = shown;
    shown = read();
    if (!shown) return;
    if (!root.isConnected) element.append(root);
    const isOther = shown.id !== before?.id;
    if (shown.models) sides.set(shown.models, shown.sides, shown.id);
    if (shown.history && isOther) drawHistory(shown.history);
    if (isOther && shown.draft) offer(shown.draft);
    drawRounds(isOther);
    drawVotes();
    note.textContent = shown.note;
    root.toggleAttribute("data-running", shown.running);
    save.disabled = !shown.rounds.some(({ note: voted }) => voted);
    again.disabled = shown.rounds.length === 0 && !shown.draft;
    if (asked !== null && shown.running && shown.rounds.at(-1)?.question === asked) {
      asked = null;
      box.value = "";
      files.replace([]);
      drawSend();
      stop.focus({ preventScroll: true });
    }
    if (wasRunning && !shown.running) finish();
    wasRunning = shown.running;
    count();
  };

  const drawHistory = (turns) => {
    history.hidden = turns.length === 0;
    history.open = false;
    const said = turns.flatMap(([question, answer]) => {
      const typed = createElement("div", "question", { dir: "auto" });
      drawQuestion(typed, question);
      const written = createElement("div", "phi3-written");
      written.innerHTML = renderBlocks(answer, () => {}).join("");
      return [typed, written];
    });
    history.replaceChildren(createElement("summary", "", {}, texts["compare.history"]), ...said);
  };

  /** Puts the question of an answer into the composer, and lets the user choose the model to compare with. */
  const offer = (question) => {
    const { files: attached, rest } = splitFiles(question);
    files.replace(attached);
    box.value = rest;
    drawSend();
    sides.open(1);
  };

  const drawRounds = (isOther) => {
    const known = rounds;
    rounds = new Map(shown.rounds.map((data) => [data.id, known.get(data.id) ?? new Round(texts, act, vote)]));
    for (const [id, round] of known) if (!rounds.has(id)) round.node.remove();
    empty.hidden = rounds.size > 0;
    const isAtEnd = isOther || list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    const last = shown.rounds.at(-1)?.id;
    for (const data of shown.rounds) {
      const round = rounds.get(data.id);
      const isNew = !round.node.isConnected;
      round.update(data, data.id === last);
      if (isNew) list.append(round.node);
      if (isNew && data.id === last) {
        list.scrollTop += round.node.getBoundingClientRect().top - list.getBoundingClientRect().top;
      } else if (isAtEnd && data.running) list.scrollTop = list.scrollHeight;
    }
  };

  /** Draws the vote buttons of the newest round above the composer. */
  const drawVotes = () => {
    const last = shown.rounds.at(-1);
    const key = last?.choices.length ? last.id : null;
    if (bar?.round === key) return;
    bar = key ? createVoteBar(texts, last, vote, true) : null;
    votes.replaceChildren(...bar ? [bar.node] : []);
  };

  /** Announces the answers, which have ended; the vote is next. */
  const finish = () => {
    announcer.textContent = [texts["compare.answered"], ...rounds.get(shown.rounds.at(-1)?.id)?.read() ?? []].join(" ");
    const active = document.activeElement;
    if (active === stop || active === document.body) (bar?.first ?? box).focus({ preventScroll: true });
  };

  globalThis.phi3Compare = {
    open() {
      act("open");
      globalThis.phi3Panels?.closeDrawers();
    },
  };
  watch("value", draw);
  drawBlind();
  drawSend();
  draw();
}
