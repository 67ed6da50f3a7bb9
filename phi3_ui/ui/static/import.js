/**
 * Imports a file of chats: sends it to the server, then shows its progress and result.
 *
 * The component's value is the server's state of the import: `title`, `detail`, `reasons`, and `fraction` while it runs; null
 * if there is none. A file that is refused meanwhile gets a line above it. Other scripts use `globalThis.phi3Import.pick()`.
 */
import { createElement, fillIn } from "./dom.js";

export default function createImport({ element, props, watch, trigger, texts, data: { megabytes } }) {
  let upload = null; // the request that sends a file
  let sending = null; // what is shown during the upload
  let refusal = ""; // why a file was not accepted
  const picker = createElement("input", "", { type: "file", accept: ".json,.jsonl,.zip", hidden: true, tabindex: -1 });
  picker.addEventListener("change", () => {
    const [file] = picker.files;
    if (file) send(file);
    picker.value = "";
  });

  const note = createElement("p", "phi3-error", { role: "alert" });
  const title = createElement("p", "phi3-import-title", { role: "status" });
  const detail = createElement("p", "phi3-import-detail");
  const bar = createElement("progress", "", { max: 1, "aria-label": texts["import.running"] });
  const reasons = createElement("ul", "phi3-import-reasons", { tabindex: 0, "aria-label": texts["import.reasons"] });
  const button = createElement("button", "", { type: "button" });
  button.addEventListener("click", () => {
    if (upload) return upload.abort();
    refuse("");
    if (props.value) trigger("click", {});
  });
  const panel = createElement("div", "phi3-import-panel", {}, note, title, detail, bar, reasons, button);
  element.append(picker, panel);

  function isRunning() {
    return typeof (sending ?? props.value)?.fraction === "number";
  }

  function draw() {
    const state = sending ?? props.value ?? { title: "" };
    panel.hidden = !state.title && !refusal;
    if (note.textContent !== refusal) note.textContent = refusal;
    note.hidden = !refusal;
    if (title.textContent !== state.title) title.textContent = state.title;
    detail.textContent = state.detail ?? "";
    bar.hidden = !isRunning();
    if (isRunning()) bar.value = state.fraction;
    const shown = state.reasons ?? [];
    reasons.hidden = !shown.length;
    reasons.replaceChildren(...shown.map((reason) => createElement("li", "", { dir: "auto" }, reason)));
    button.textContent = isRunning() ? texts.cancel : texts.close;
  }

  function refuse(sentence) {
    refusal = sentence;
    draw();
  }

  function send(file) {
    if (isRunning()) return refuse(texts["error.import_running"]);
    if (file.size > megabytes * 1e6) return refuse(fillIn(texts["error.request_too_large"], { size: megabytes }));
    const root = new URL(globalThis.gradio_config?.root || "/", location.href).pathname.replace(/\/$/, "");
    const request = upload = new XMLHttpRequest();
    request.open("POST", `${root}/import`);
    request.setRequestHeader("X-Phi3-Tab", globalThis.phi3TabState?.tab ?? "");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    const report = (fraction) => {
      sending = { title: texts["import.sending"], detail: file.name, fraction };
      draw();
    };
    request.upload.addEventListener("progress", ({ loaded, total }) => report(total ? loaded / total : 0));
    const end = (sentence = "") => {
      upload = sending = null;
      refuse(sentence);
    };
    request.addEventListener("load", () => {
      end(request.status === 202 ? "" : readDetail(request.responseText));
      trigger("input", {}); // shows the import, even one of another page that blocks this one
    });
    request.addEventListener("error", () => end(texts["import.not_sent"]));
    request.addEventListener("abort", () => end());
    refusal = "";
    report(0);
    request.send(file);
  }

  function readDetail(response) {
    try {
      return JSON.parse(response).detail ?? texts["import.not_sent"];
    } catch {
      return texts["import.not_sent"]; // from a proxy, or empty
    }
  }

  watch("value", draw);
  draw();
  globalThis.phi3Import = { pick: () => picker.click() };
}
