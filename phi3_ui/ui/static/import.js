/**
 * Imports a file of chats: sends it to the server, then shows its progress and result.
 *
 * The component's value is what the server knows of it: `title`, `detail`, `reasons`, and `fraction` while it runs; null if
 * there is none. Other scripts use `globalThis.phi3Import.pick()`.
 */
import { createElement, fillIn } from "./dom.js";

export default function createImport({ element, props, watch, trigger, texts, data: { megabytes } }) {
  let upload = null; // the request that sends a file
  let local = null; // what is shown of it, until the server knows
  const picker = createElement("input", "", { type: "file", accept: ".json,.jsonl,.zip", hidden: true, tabindex: -1 });
  picker.addEventListener("change", () => {
    const [file] = picker.files;
    if (file) send(file);
    picker.value = "";
  });

  const title = createElement("p", "phi3-import-title", { role: "status" });
  const detail = createElement("p", "phi3-import-detail");
  const bar = createElement("progress", "", { max: 1, "aria-label": texts["import.running"] });
  const reasons = createElement("ul", "phi3-import-reasons", { tabindex: 0, "aria-label": texts["import.reasons"] });
  const button = createElement("button", "", { type: "button" });
  button.addEventListener("click", () => {
    if (upload) upload.abort();
    else if (local) show(null);
    else trigger("click", {});
  });
  const panel = createElement("div", "phi3-import-panel", {}, title, detail, bar, reasons, button);
  element.append(picker, panel);

  function draw() {
    const state = local ?? props.value;
    panel.hidden = !state;
    if (!state) {
      title.textContent = "";
      return;
    }
    const isRunning = typeof state.fraction === "number";
    if (title.textContent !== state.title) title.textContent = state.title;
    detail.textContent = state.detail ?? "";
    bar.hidden = !isRunning;
    if (isRunning) bar.value = state.fraction;
    const shown = state.reasons ?? [];
    reasons.hidden = !shown.length;
    reasons.replaceChildren(...shown.map((reason) => createElement("li", "", { dir: "auto" }, reason)));
    button.textContent = isRunning ? texts.cancel : texts.close;
  }

  function show(state) {
    local = state;
    draw();
  }

  function send(file) {
    if (upload) return;
    if (file.size > megabytes * 1e6) {
      show({ title: fillIn(texts["error.request_too_large"], { size: megabytes }) });
      return;
    }
    const root = new URL(globalThis.gradio_config?.root || "/", location.href).pathname.replace(/\/$/, "");
    upload = new XMLHttpRequest();
    upload.open("POST", `${root}/import`);
    upload.setRequestHeader("X-Phi3-Tab", globalThis.phi3TabState?.tab ?? "");
    upload.setRequestHeader("Content-Type", "application/octet-stream");
    upload.upload.addEventListener("progress", ({ loaded, total }) => {
      show({ title: texts["import.sending"], detail: file.name, fraction: total ? loaded / total : 0 });
    });
    upload.addEventListener("loadend", () => {
      const { status, responseText } = upload;
      upload = null;
      if (status === 202) {
        show(null);
        trigger("input", {});
      } else if (local) {
        show(status === 0 && wasAborted ? null : { title: readDetail(responseText) });
      }
    });
    let wasAborted = false;
    upload.addEventListener("abort", () => wasAborted = true);
    show({ title: texts["import.sending"], detail: file.name, fraction: 0 });
    upload.send(file);
  }

  function readDetail(response) {
    try {
      return JSON.parse(response).detail ?? texts["import.not_sent"];
    } catch {
      return texts["import.not_sent"]; // from a proxy, or nothing at all
    }
  }

  watch("value", draw);
  draw();
  globalThis.phi3Import = { pick: () => picker.click() };
}
