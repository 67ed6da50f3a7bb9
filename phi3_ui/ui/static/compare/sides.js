/** The choice of the sides: a model for each, and optionally a parameter preset and a system prompt. */
import drawIcon from "../chat/icons.js";
import { createElement, createIconButton } from "../dom.js";

const MIN = 2;
const MAX = 4;

/** `onChange` is called after each change. Returns the button, the panel that it opens, `set` for the server's state, `open`, and `read` for the current choice. */
export default function createSides(texts, presets, onChange) {
  let models = []; // id and label
  let sides = [];
  let owner = null; // the comparison that the sides were taken from
  const label = createElement("span");
  const button = createElement(
    "button",
    "phi3-ghost",
    { type: "button", popovertarget: "phi3-sides", title: texts["compare.sides"] },
    label,
    drawIcon("down"),
  );
  const panel = createElement("div", "phi3-sides", {
    id: "phi3-sides",
    popover: "auto",
    role: "dialog",
    "aria-label": texts["compare.sides"],
  });

  const drawLabel = () => {
    onChange();
    const isOneModel = new Set(sides.map(({ model }) => model)).size < sides.length;
    label.textContent = texts[`compare.${isOneModel ? "sides" : "models"}.${sides.length}`] ?? "";
  };
  const draw = () => {
    drawLabel();
    const add = createElement("button", "phi3-ghost", { type: "button" }, texts["compare.side.add"]);
    add.disabled = sides.length >= MAX;
    add.addEventListener("click", () => {
      const used = new Set(sides.map(({ model }) => model));
      const model = models.find(([id]) => !used.has(id))?.[0] ?? models[0]?.[0] ?? "";
      sides.push({ model, preset: used.has(model) ? presets[0] : "", system: "" });
      draw();
      panel.querySelectorAll("select").item(2 * (sides.length - 1))?.focus();
    });
    const hint = createElement("p", "phi3-quiet", {}, texts["compare.sides.hint"]);
    panel.replaceChildren(...sides.map(drawSide), createElement("div", "end", {}, add, hint));
  };

  const drawSide = (side, index) => {
    const title = texts["compare.side"].replace("{number}", index + 1);
    const remove = createIconButton(
      drawIcon("close"),
      texts["compare.side.remove"].replace("{number}", index + 1),
    );
    remove.hidden = sides.length <= MIN;
    remove.addEventListener("click", () => {
      sides.splice(index, 1);
      draw();
      panel.querySelector("select")?.focus();
    });
    const model = choose(texts.model, models, side.model, (value) => side.model = value);
    const named = presets.map((name) => [name, texts[`preset.${name}`]]);
    const all = [["", texts["compare.side.settings"]], ...named];
    const preset = choose(texts["compare.side.preset"], all, side.preset, (value) => side.preset = value);
    const system = createElement("textarea", "", { rows: "2", placeholder: texts["compare.side.system"] });
    system.setAttribute("aria-label", `${title}: ${texts["compare.side.system"]}`);
    system.value = side.system;
    system.addEventListener("input", () => {
      side.system = system.value;
      onChange();
    });
    const head = createElement("legend", "", {}, title);
    return createElement("fieldset", "", {}, head, remove, model, preset, system);
  };

  const choose = (name, options, value, set) => {
    const items = options.map(([id, text]) => createElement("option", "", { value: id, selected: id === value }, text));
    const select = createElement("select", "", { "aria-label": name, title: name }, ...items);
    select.addEventListener("change", () => {
      set(select.value);
      drawLabel();
    });
    return select;
  };

  panel.addEventListener("beforetoggle", ({ newState }) => {
    if (newState === "open") draw();
  });
  return {
    button,
    panel,
    set(known, chosen, id) {
      models = known;
      if (id === owner) return; // keep what was chosen meanwhile
      owner = id;
      sides = chosen.map((side) => ({ ...side }));
      drawLabel();
      if (panel.matches(":popover-open")) draw();
    },
    /** Shows the choice and focuses this side. */
    open(index) {
      panel.showPopover();
      panel.querySelectorAll("fieldset")[index]?.querySelector("select").focus();
    },
    read: () => sides.map((side) => ({ ...side })),
  };
}
