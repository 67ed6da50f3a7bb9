/** The presets of the sampling parameters as a row of buttons, the marks on changed values, and Reset all. */
import LOCALE from "../locale.js";
import { createElement } from "../dom.js";
import drawNumber from "./number_field.js";
import { changedNames, currentSettings, findPreset, setApplier } from "./state.js";

const KEY = "phi3-custom-params";
const written = new WeakSet(); // slider limits already in the page's language

export default function createPresets({ element, trigger, texts, data: table }) {
  const apply = (values) => trigger("click", { values });
  setApplier(apply);
  const names = Object.keys(table.presets[0].values);
  let custom = load();

  const buttons = [...table.presets.map(({ name }) => name), "custom"].map((name) =>
    createElement("button", "", { type: "button", value: name, "aria-pressed": "false" }, texts[`preset.${name}`])
  );
  const group = createElement("div", "phi3-segments", { role: "group", "aria-label": texts.presets }, ...buttons);
  group.addEventListener("click", (event) => {
    const name = event.target.closest("button")?.value;
    const preset = table.presets.find((preset) => preset.name === name);
    if (preset) apply(preset.values);
    else if (name === "custom" && custom) apply(custom);
    else if (name) document.querySelector("#phi3-set-temperature input")?.focus();
  });
  const reset = createElement("button", "phi3-ghost", { type: "button", id: "phi3-reset" }, texts["settings.reset"]);
  reset.addEventListener("click", () => apply(table.defaults));
  const heading = createElement("h3", "", {}, texts.presets);
  element.replaceChildren(createElement("header", "", {}, heading, reset), group);

  const draw = () => {
    const settings = currentSettings(table);
    const preset = findPreset(table, settings);
    if (preset === "custom") save(custom = Object.fromEntries(names.map((name) => [name, settings[name]])));
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.value === preset));
    const changed = changedNames(table, settings);
    reset.disabled = changed.length === 0;
    for (const name of Object.keys(table.defaults)) {
      const block = document.querySelector(`#phi3-set-${name}`);
      const label = block?.querySelector('[data-testid="block-info"]');
      if (!label) continue;
      if (changed.includes(name)) label.setAttribute("data-changed", texts["settings.changed"]);
      else label.removeAttribute("data-changed");
      nameParts(block, label.textContent.trim(), texts["settings.reset_one"]);
    }
  };
  document.addEventListener("phi3-settings", draw);
  draw();
}

/** Names the parts of a slider and formats its numbers, which Gradio always does in English. */
function nameParts(block, name, reset) {
  block.querySelector("[data-testid=range-input]")?.setAttribute("aria-label", name);
  const number = block.querySelector("[data-testid=number-input]");
  if (number) drawNumber(number, name);
  for (const end of block.querySelectorAll("[data-testid=min-value], [data-testid=max-value]")) {
    if (written.has(end)) continue;
    written.add(end);
    end.firstChild.nodeValue = Number(end.textContent).toLocaleString(LOCALE);
  }
  block.querySelector("[data-testid=reset-button]")?.setAttribute("aria-label", `${reset}: ${name}`);
}

/** Returns the values of the last custom combination; null if there was none. */
function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY));
  } catch (error) {
    console.info("The custom parameters cannot be read:", error);
    return null;
  }
}

function save(values) {
  try {
    localStorage.setItem(KEY, JSON.stringify(values));
  } catch (error) {
    console.info("The custom parameters are not remembered:", error);
  }
}
