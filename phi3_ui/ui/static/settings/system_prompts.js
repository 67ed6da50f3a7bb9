/** Chooses, saves and deletes system prompts. The prompt itself is in the text field above, where it can be changed. */
import { createElement, createIconButton, typeInto } from "../dom.js";
import drawIcon from "../chat/icons.js";
import { loadPrompts, savePrompts } from "./prompts.js";
import { currentSettings } from "./state.js";

const NONE = "none", OWN = "own";

export default function createSystemPrompts({ element, texts, data: table }) {
  const field = () => document.querySelector("#phi3-set-system textarea");
  const select = createElement("select", "", { id: "phi3-system-select", "aria-label": texts["system.preset"] });
  const save = createIconButton(drawIcon("check"), texts["system.save"], { id: "phi3-system-save" });
  const remove = createIconButton(drawIcon("delete"), texts["system.delete"], { id: "phi3-system-delete" });
  const name = createElement("input", "", {
    type: "text",
    maxlength: 60,
    "aria-label": texts["system.name"],
    placeholder: texts["system.name"],
  });
  const keep = createElement("button", "phi3-ghost", { type: "submit" }, texts["system.keep"]);
  const cancel = createElement("button", "phi3-ghost", { type: "button" }, texts.cancel);
  const form = createElement("form", "", { hidden: true }, name, keep, cancel);
  const note = createElement("p", "phi3-error", { role: "alert" });
  element.replaceChildren(createElement("div", "phi3-system-row", {}, select, save, remove), form, note);

  const text = () => currentSettings(table).system ?? "";
  const included = () =>
    table.prompts.map((key) => ({
      key: `included:${key}`,
      name: texts[`system.${key}`],
      text: texts[`system.${key}.text`],
    }));
  const saved = () => loadPrompts().map((prompt) => ({ key: `saved:${prompt.name}`, ...prompt }));

  const draw = () => {
    const groups = [[texts["system.included"], included()], [texts["system.saved"], saved()]];
    const chosen = [...included(), ...saved()].find((prompt) => prompt.text === text());
    const option = (value, label) => createElement("option", "", { value }, label);
    const value = text().trim() === "" ? NONE : chosen?.key ?? OWN;
    select.replaceChildren(
      option(NONE, texts["system.none"]),
      ...(value === OWN ? [option(OWN, texts["system.own"])] : []),
      ...groups.filter(([, prompts]) => prompts.length).map(([label, prompts]) =>
        createElement("optgroup", "", { label }, ...prompts.map((prompt) => option(prompt.key, prompt.name)))
      ),
    );
    select.value = value;
    save.disabled = value !== OWN;
    remove.disabled = !value.startsWith("saved:");
  };
  const toggleForm = (isOpen) => {
    form.hidden = !isOpen;
    note.textContent = "";
    if (isOpen) name.select();
    else if (form.contains(document.activeElement)) save.focus();
  };
  const store = (prompts) => {
    const isSaved = savePrompts(prompts);
    note.textContent = isSaved ? "" : texts["system.not_saved"];
    return isSaved;
  };

  select.addEventListener("change", () => {
    const prompt = [...included(), ...saved()].find(({ key }) => key === select.value);
    if (prompt || select.value === NONE) typeInto(field(), prompt?.text ?? "");
  });
  save.addEventListener("click", () => toggleForm(true));
  cancel.addEventListener("click", () => toggleForm(false));
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.preventDefault();
    toggleForm(false);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const title = name.value.trim();
    if (title === "") return name.focus();
    const others = loadPrompts().filter((prompt) => prompt.name !== title);
    if (!store([...others, { name: title, text: text() }])) return;
    toggleForm(false);
    name.value = "";
    select.focus();
  });
  remove.addEventListener("click", () => {
    const key = select.value;
    store(loadPrompts().filter((prompt) => `saved:${prompt.name}` !== key));
    select.focus();
  });
  document.addEventListener("phi3-settings", draw);
  document.addEventListener("phi3-system-prompts", draw);
  draw();
}
