/**
 * The composer: one box with the text above and the tools below. Draws the tools, keeps Send and Stop in the same place, and
 * asks the server how many tokens the draft has.
 *
 * The component's value is the state: `chat`, the shown chat's id; `busy` while an answer is in progress; `asked`, the id of its
 * last turn; and optionally `draft`, a question to put into the composer. Other scripts use `globalThis.phi3Composer`: `setText`
 * when the box has changed, `compose` for the draft with its files, `take` before it is sent, `release` once it is answered or
 * refused.
 */
import drawIcon from "../chat/icons.js";
import { splitFiles } from "../attached_files.js";
import { createElement, createIconButton, fillIn, typeInto } from "../dom.js";
import { currentSettings } from "../settings/state.js";
import { nameSystemPrompt } from "../settings/prompts.js";
import Attachments from "./attachments.js";
import { keepDrafts, loadDrafts } from "./drafts.js";
import createPresetMenu from "./preset_menu.js";
import acceptFiles from "./drop_files.js";
import listenForShortcuts from "./shortcuts.js";

const COUNT_AFTER = 300; // milliseconds after the last key
const SEND_GUARD = 400; // milliseconds for which Send cannot be clicked after it has replaced Stop

export default function createComposer({ element, props, watch, trigger, texts, data: table }) {
  const root = element.closest("#phi3-composer");
  const box = () => root.querySelector("#phi3-message textarea");
  const send = () => root.querySelector("#phi3-send");
  const stop = () => root.querySelector("#phi3-stop");
  let text = box()?.value ?? "";
  let pending = null; // the ids of the files sent with a question that is not yet accepted, and the turn before it
  let shownChat = null; // the id of the chat whose draft the composer holds
  const drafts = loadDrafts(); // drafts of the other chats, by id
  let leaving = null; // the composer's text when another chat was requested
  let given = null; // the last draft from the server
  let isBusy = false;
  let guard = null;
  let counted = null;
  let timer;

  const files = new Attachments(texts, () => {
    drawSend();
    count();
  }, { key: "phi3-chat-files", box });

  // Send and Stop

  const drawSend = () => {
    const isEmpty = text.trim() === "" && !files.count;
    root.toggleAttribute("data-empty", isEmpty);
    send()?.setAttribute("aria-disabled", String(isEmpty || guard !== null));
  };
  const guardSend = () => {
    clearTimeout(guard);
    guard = setTimeout(() => {
      guard = null;
      drawSend();
    }, SEND_GUARD);
    drawSend();
  };
  const setDraft = (draft) => {
    given = draft;
    if (draft === null) return;
    const { files: attached, rest } = splitFiles(draft);
    files.replace(attached);
    typeInto(box(), rest);
  };
  // Each chat keeps its draft. What is typed while the next chat is loading belongs to the next one.
  const changeChat = (chat) => {
    if (!chat || chat === shownChat) return;
    if (shownChat !== null && !pending) {
      const left = leaving !== null && text.startsWith(leaving) ? leaving : text;
      const { typed = "", attached = [] } = drafts.get(chat) ?? {};
      const isSent = left === globalThis.phi3TakenMessage;
      drafts.set(shownChat, { typed: isSent ? "" : left, attached: files.files });
      drafts.delete(chat);
      const next = typed + text.slice(left.length);
      if (next !== text) typeInto(box(), next);
      files.replace(attached);
    }
    leaving = null;
    shownChat = chat;
  };
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#phi3-new, button[name=open]")) leaving = text;
  }, true);
  keepDrafts(drafts);
  const drawState = () => {
    const { busy = false, asked = "", draft = null, chat } = props.value ?? {};
    changeChat(chat);
    if (draft !== given) setDraft(draft);
    if (pending && (busy || asked !== pending.asked)) {
      const sent = pending.ids;
      pending = null;
      files.remove(sent);
    }
    if (busy === isBusy) return;
    isBusy = busy;
    if (!busy) guardSend();
    const wasFocused = [send(), stop()].includes(document.activeElement);
    root.toggleAttribute("data-busy", busy);
    if (wasFocused && matchMedia("(hover: hover)").matches) box()?.focus({ preventScroll: true });
  };
  root.addEventListener("click", (event) => {
    // While the connection is lost, Gradio drops the click: the next page load tells the server.
    if (event.target.closest("#phi3-stop")) globalThis.phi3StoppedTurn = props.value?.asked;
    if (event.target.closest("#phi3-send[aria-disabled=true]")) {
      event.stopImmediatePropagation();
      event.preventDefault();
    }
  }, true);

  // The draft's tokens

  const count = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const draft = { text: files.compose(text), files: files.data };
      const key = JSON.stringify([draft.text, draft.files.map(({ id }) => id), currentSettings(table).system]);
      if (key === counted) return;
      counted = key;
      trigger("input", draft);
    }, COUNT_AFTER);
  };
  const readMeter = () => {
    const meter = root.querySelector("#phi3-context [data-files]");
    if (!meter) return;
    files.showCounts(JSON.parse(meter.dataset.files));
    const model = meter.dataset.model;
    const field = box();
    if (field && model) field.placeholder = fillIn(texts.message_placeholder, { model });
  };
  new MutationObserver((changes) => {
    if (changes.some(({ target }) => target.closest?.("#phi3-context"))) readMeter();
  }).observe(root, { childList: true, subtree: true, attributes: true, attributeFilter: ["data-files", "data-model"] });

  // The tools

  const openSettings = (selector) => {
    globalThis.phi3Panels?.open("right");
    globalThis.phi3Tabs?.show("settings");
    requestAnimationFrame(() => document.querySelector(selector)?.focus());
  };
  const picker = createElement("input", "", { type: "file", multiple: true, hidden: true, tabindex: -1 });
  picker.addEventListener("change", async () => {
    await files.add([...picker.files]);
    picker.value = "";
    box()?.focus();
  });
  const attach = createIconButton(drawIcon("attach"), texts.attach, { id: "phi3-attach" });
  attach.addEventListener("click", () => picker.click());
  const systemName = createElement("span");
  const system = createElement(
    "button",
    "phi3-tool",
    { type: "button", id: "phi3-system-button" },
    drawIcon("eye"),
    systemName,
  );
  system.addEventListener("click", () => openSettings("#phi3-set-system textarea"));
  const drawSystem = () => {
    systemName.textContent = nameSystemPrompt(texts, table, currentSettings(table).system);
    system.title = `${texts.system_prompt}: ${systemName.textContent}`;
    system.setAttribute("aria-label", system.title);
  };
  document.addEventListener("phi3-settings", () => {
    drawSystem();
    count();
  });
  document.addEventListener("phi3-system-prompts", drawSystem);

  const sheet = listenForShortcuts(texts, { box, isBusy: () => isBusy, stop: () => stop()?.click() });
  const tools = createElement(
    "div",
    "phi3-tools",
    {},
    attach,
    picker,
    system,
    ...createPresetMenu(texts, table, openSettings),
  );
  element.append(files.node, tools, sheet);
  acceptFiles(root, texts, (dropped) => files.add(dropped));

  document.addEventListener("input", (event) => {
    if (event.target === box()) globalThis.phi3Composer.setText(event.target.value);
  }, true);
  globalThis.phi3Composer = {
    setText(value) {
      text = value ?? "";
      drawSend();
      count();
    },
    compose: (typed) => files.compose(typed),
    take(typed) {
      if (pending || !files.count) return typed;
      files.refusals.replaceChildren();
      pending = { ids: files.files.map(({ id }) => id), asked: props.value?.asked ?? "" };
      return files.compose(typed);
    },
    release() {
      pending = null;
    },
  };
  send()?.setAttribute("title", texts.send);
  stop()?.setAttribute("title", texts.stop);
  watch("value", drawState);
  drawState();
  drawSend();
  drawSystem();
  readMeter();
  if (text || files.count) count();
}
