/**
 * Draws the chat from the component's value, a list of messages as JSON: `role`, `content` and more; see ChatMessage in
 * render/messages.py. The answer in progress arrives separately, as `globalThis.phi3Running`, and only its row is redrawn.
 *
 * A message's content is exactly what was typed or what the model wrote. A question is drawn as plain text; an answer's
 * HTML is created here and used only here: Copy takes the content.
 */
import { create } from "./dom.js";
import drawEmpty from "./empty.js";
import followEnd from "./follow.js";
import createMenu from "./menu.js";
import { identify, Row } from "./row.js";
import rove from "./rove.js";

const MAX_SHARE = 4; // drawing takes at most about 1/MAX_SHARE of the time
const CHUNK = 20; // messages that are drawn together once they are near the view; see chat.css
const NARROW = 560; // pixels; below this width, an answer's metrics have no names
const MAX_ANNOUNCED = 2000; // characters

/** Draws the chat; returns a function that draws the answer in progress. */
export default function showChat(element, props, watch, texts, starters = []) {
  // Answers are announced once they are finished, not per token.
  const log = create("div", "phi3-log", { role: "log", "aria-live": "off", "aria-label": texts.chat });
  const announcer = create("div", "phi3-announcer", { role: "status" });
  const empty = drawEmpty(texts, starters);
  const stops = rove(log, ({ parentElement }) => show(parentElement));
  const end = followEnd(log, texts.jump_to_latest, stops.focus);
  const ui = { texts, createMore: createMenu(element, texts["actions.more"]), onResize: end.keep };
  if (globalThis.ResizeObserver) {
    new ResizeObserver(() => log.toggleAttribute("data-narrow", log.clientWidth < NARROW)).observe(log);
  }
  const shown = new WeakSet(); // chunks
  const approaching = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) show(target);
  }, { root: log, rootMargin: "100%" });
  let rows = [];
  element.append(empty, log, end.button, announcer);

  const drawAll = () => {
    const messages = JSON.parse(props.value || "[]");
    const asked = rows.findLast(({ role }) => role === "user")?.message.turn;
    const known = new Map(rows.map((row) => [row.key, row]));
    const counts = new Map();
    rows = messages.map((message) => {
      const identity = identify(message);
      const count = (counts.get(identity) ?? 0) + 1;
      counts.set(identity, count);
      const key = `${identity} ${count}`;
      const row = known.get(key) ?? Object.assign(new Row(message, ui), { key });
      known.delete(key);
      update(row, message);
      return row;
    });
    for (const { node } of known.values()) node.remove();
    removeEmpty(); // those of another chat
    rows.forEach(place);
    removeEmpty();
    showEnd();
    log.hidden = !(empty.hidden = messages.length > 0);
    document.querySelector("#phi3-shell").toggleAttribute("data-empty-chat", log.hidden);
    markLast();
    drawRunning();
    stops.reset();
    const question = rows.findLast(({ role }) => role === "user");
    const isNew = question && question.message.turn !== asked;
    // Paging through the versions of a turn must not scroll.
    if (isNew && globalThis.phi3LastAction !== "show") end.jump();
    else end.keep();
  };

  const place = (row, index) => {
    const chunk = log.children[Math.floor(index / CHUNK)] ?? addChunk();
    const at = chunk.children[index % CHUNK];
    if (at !== row.node) chunk.insertBefore(row.node, at ?? null);
    if (shown.has(chunk)) row.showButtons();
  };

  const addChunk = () => {
    const chunk = log.appendChild(create("div", "phi3-chunk"));
    approaching.observe(chunk);
    end.observe(chunk);
    return chunk;
  };

  const removeEmpty = () => [...log.children].filter((chunk) => !chunk.firstChild).forEach((chunk) => chunk.remove());

  /** Adds the buttons of the messages in a chunk. */
  const show = (chunk) => {
    if (shown.has(chunk)) return;
    shown.add(chunk);
    approaching.unobserve(chunk);
    const first = CHUNK * [...log.children].indexOf(chunk);
    for (const row of rows.slice(first, first + CHUNK)) row.showButtons();
  };

  /** Adds the buttons at the end of the chat, which is shown when a chat is opened, before the first paint. */
  const showEnd = () => [...log.children].slice(-2).forEach(show);

  const drawRunning = () => {
    const running = globalThis.phi3Running;
    const last = rows.at(-1);
    if (!running || last?.message.turn !== running.turn || last.message.caption?.kind === "answer") return;
    if (last.role === "user") {
      rows.push(Object.assign(new Row(running, ui), { key: `${identify(running)} 1` }));
      place(rows.at(-1), rows.length - 1);
      showEnd();
      markLast();
    }
    rows.at(-1).update(running);
    end.keep();
  };

  const update = (row, message) => {
    const wasRunning = row.drawn && isRunning(row);
    row.update(message);
    if (!wasRunning || message.caption?.kind !== "answer") return;
    const text = `${row.text.textContent} ${message.caption.error ?? ""}`.trim().slice(0, MAX_ANNOUNCED);
    announcer.textContent = texts.answered.replace("{model}", () => message.caption.model).replace(
      "{text}",
      () => text,
    );
  };

  const markLast = () => {
    const last = rows.findLast(({ role, message }) => role === "assistant" && message.turn !== undefined);
    for (const row of rows) row.node.classList.toggle("phi3-last", row === last);
  };

  element.addEventListener("click", (event) => {
    const button = event.target.closest("button[name=edit]");
    if (!button) return;
    event.stopPropagation(); // it needs no request to the server
    const row = rows.find(({ role, message }) => role === "user" && message.turn === button.value);
    const opener = document.activeElement;
    row?.edit(() => {
      if (opener.matches("#phi3-message textarea")) return opener.focus(); // the key ↑ was pressed there
      const caller = log.querySelector(`button[name=edit][value="${button.value}"]`);
      if (caller?.checkVisibility()) caller.focus();
      else caller?.parentElement.querySelector("[name=more]")?.focus();
    });
  });
  watch("value", pace(drawAll));
  drawAll();
  return pace(drawRunning);
}

/** Whether a row is the answer in progress. */
function isRunning(row) {
  return row?.role === "assistant" && row.message.turn !== undefined && row.message.caption?.kind !== "answer";
}

/** Throttles `action` to once a frame and to a share of the time; the last call is never lost. */
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
    if (document.hidden || wait > 0) setTimeout(run, Math.max(wait, 0)); // a hidden page has no animation frames
    else requestAnimationFrame(run);
  };
}
