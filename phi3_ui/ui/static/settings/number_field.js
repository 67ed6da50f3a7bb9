/** A slider's number in the page's language, in place of Gradio's field, which the browser formats in its own language. */
import { createElement } from "../dom.js";
import LOCALE from "../locale.js";

const FORMAT = new Intl.NumberFormat(LOCALE, { useGrouping: false, maximumFractionDigits: 10 });
const POINT = FORMAT.format(0.5).charAt(1);
const GROUPED = /[.,\s](?=\d{3}(?!\d))/g; // 4,096 and 4.096
const fields = new WeakMap(); // by Gradio's field

/** Draws the value of Gradio's field, which still holds the value; `name` is the label. */
export default function drawNumber(native, name) {
  if (!fields.has(native)) fields.set(native, createField(native));
  const field = fields.get(native);
  field.setAttribute("aria-label", name);
  if (document.activeElement !== field) write(field, native);
}

function createField(native) {
  const field = createElement("input", "phi3-number", { type: "text", inputmode: "decimal", autocomplete: "off" });
  const take = () => {
    const number = parse(field.value.trim(), Number.isInteger(Number(native.step)));
    if (Number.isFinite(number)) setValue(native, number);
  };
  const commit = () => {
    take();
    requestAnimationFrame(() => write(field, native)); // with the value that Gradio has clamped
  };
  field.addEventListener("blur", commit); // not "change": it may not fire if a script has written the field
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") commit();
    const steps = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!steps) return;
    event.preventDefault();
    take();
    native.stepUp(steps);
    setValue(native, native.valueAsNumber);
    requestAnimationFrame(() => write(field, native));
  });
  new MutationObserver(() => write(field, native)).observe(native, { attributeFilter: ["disabled"] });
  native.hidden = true;
  native.removeAttribute("aria-label");
  native.before(field);
  return field;
}

/** Parses a number; NaN if it is not one. */
function parse(text, isWhole) {
  if (text === "") return NaN;
  const number = Number((isWhole ? text.replace(GROUPED, "") : text).replace(POINT, "."));
  return isWhole ? Math.round(number) : number;
}

function write(field, native) {
  field.disabled = native.disabled;
  field.value = Number.isNaN(native.valueAsNumber) ? "" : FORMAT.format(native.valueAsNumber);
}

function setValue(native, number) {
  native.value = number;
  native.dispatchEvent(new Event("input", { bubbles: true }));
  native.dispatchEvent(new Event("blur")); // on which Gradio clamps it
}
