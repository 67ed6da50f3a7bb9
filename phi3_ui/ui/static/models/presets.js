/**
 * Draws the presets as cards to choose from. The component's value has the cards by language; the hidden component
 * `phi3-add-preset` has the key of the chosen one.
 */
import { create, getField, plain, setField } from "./store.js";

const FIELD = "phi3-add-preset";
const FORMS = ["own", "remote"]; // choices with additional fields, which the style sheet shows

export default function showPresets({ element, props, texts }) {
  const all = plain(props.value);
  const cards = all[navigator.language.split("-")[0]] ?? all.en;
  const chosen = getField(FIELD) || cards[0].key;
  const choose = (key) => {
    setField(FIELD, key);
    for (const name of FORMS) document.querySelector("#phi3-add").toggleAttribute(`data-${name}`, key === name);
  };
  const group = create("div", { class: "phi3-presets", role: "radiogroup", "aria-label": texts["add.preset"] });
  for (const { key, title, about, needs } of cards) {
    const radio = create("input", { type: "radio", name: "phi3-preset", value: key, checked: key === chosen });
    radio.addEventListener("change", () => choose(key));
    const lines = [about, needs].filter(Boolean).map((line) => create("span", {}, line));
    group.append(create("label", { class: "phi3-preset" }, radio, create("b", {}, title), ...lines));
  }
  element.append(group);
}
