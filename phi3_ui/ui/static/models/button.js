/** Draws the model button from the component's value, a ModelStatus of render/model_status.py, with its chips. */
import { createSentence } from "../chat/dom.js";
import drawIcon from "../chat/icons.js";
import { create, createChip, plain, subscribe, update } from "./store.js";

export default function showButton({ element, props, watch, texts }) {
  const dot = create("i", { class: "phi3-dot" });
  const name = create("span", { class: "phi3-model-name" });
  const engine = create("span", { class: "phi3-chip" });
  const label = create("span", { class: "phi3-model-label" });
  const button = create(
    "button",
    {
      id: "phi3-model",
      type: "button",
      popovertarget: "phi3-models",
      "aria-haspopup": "listbox",
      "aria-expanded": "false",
    },
    ...[
      dot,
      name,
      engine,
      label,
      drawIcon("down"),
      create("i", { class: "phi3-loading" }),
    ],
  );
  const chips = create("div", { class: "phi3-chips" });
  const error = create("div", { class: "phi3-model-error" });
  element.append(
    create("div", { class: "phi3-model-bar" }, button, chips, error),
  );
  let drawn = "";
  let failure = ""; // as shown and announced

  function draw({ status, job }) {
    const text = JSON.stringify([status, job]);
    if (text === drawn) return;
    drawn = text;
    const state = status?.state ?? "none";
    button.dataset.state = state;
    dot.className = `phi3-dot ${state}`;
    name.textContent = status?.name || texts["models.none"];
    engine.textContent = status?.engine ?? "";
    label.textContent = status?.label ?? "";
    fitEngine();
    button.title = status?.name ? `${status.name} · ${status.engine} · ${status.label}` : texts.model;
    const facts = status?.engine ? [{ text: status.engine, kind: "plain" }, ...status.chips] : [];
    if (job) facts.unshift({ text: `${texts.add}: ${job.summary}`, kind: "warn" });
    chips.replaceChildren(...facts.map(createChip));
    if ((status?.error ?? "") !== failure) {
      failure = status?.error ?? "";
      error.replaceChildren(
        ...status?.error ? [createSentence("phi3-error", { role: "alert" }, status.error)] : [],
      );
    }
  }

  function fitEngine() { // the name takes precedence in a narrow header
    engine.hidden = !engine.textContent;
    engine.hidden ||= name.scrollWidth > name.clientWidth;
  }

  new ResizeObserver(fitEngine).observe(element);
  subscribe(draw);
  watch("value", () => update({ status: plain(props.value) }));
  if (props.value) update({ status: plain(props.value) });
}
