/** The button with the parameter preset, and the menu that it opens. */
import LOCALE from "../locale.js";
import drawIcon from "../chat/icons.js";
import { createElement } from "../dom.js";
import { applySettings, changedNames, currentSettings, findPreset } from "../settings/state.js";

export default function createPresetMenu(texts, table, openSettings) {
  const label = createElement("span");
  const menu = createElement("div", "phi3-menu", {
    role: "menu",
    popover: "auto",
    "aria-label": texts["composer.preset"],
  });
  const button = createElement(
    "button",
    "phi3-tool",
    { type: "button", id: "phi3-preset-button", "aria-haspopup": "menu", "aria-expanded": "false" },
    drawIcon("tune"),
    label,
  );
  const presetValues = table.presets[0].values;
  const temperature = (value) => `T ${Number(value).toLocaleString(LOCALE)}`;

  const items = table.presets.map(({ name, values }) => {
    const item = createElement(
      "button",
      "",
      { type: "button", role: "menuitemradio", value: name },
      texts[`preset.${name}`],
    );
    item.append(createElement("small", "", {}, temperature(values.temperature)));
    item.addEventListener("click", () => {
      menu.hidePopover();
      applySettings(values);
    });
    return item;
  });
  const all = createElement("button", "", { type: "button", role: "menuitem" }, texts["composer.all_settings"]);
  all.addEventListener("click", () => {
    menu.hidePopover();
    openSettings("#phi3-presets button");
  });
  menu.append(...items, all);

  button.addEventListener("click", () => menu.togglePopover());
  menu.addEventListener("toggle", (event) => {
    const isOpen = event.newState === "open";
    button.setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) return;
    const place = button.getBoundingClientRect();
    menu.style.left = `${Math.min(place.left, innerWidth - menu.offsetWidth - 8)}px`;
    menu.style.bottom = `${innerHeight - place.top + 6}px`;
    (items.find((item) => item.getAttribute("aria-checked") === "true") ?? items[0]).focus();
  });
  menu.addEventListener("keydown", (event) => {
    const buttons = [...items, all];
    const at = buttons.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1 + buttons.length, Home: 0, End: buttons.length - 1 }[event.key];
    if (next === undefined) {
      if (event.key === "Tab") menu.hidePopover();
      return;
    }
    event.preventDefault();
    buttons[next % buttons.length].focus();
  });

  const draw = () => {
    const settings = currentSettings(table);
    const preset = findPreset(table, settings);
    label.textContent = `${texts[`preset.${preset}`]} · ${temperature(settings.temperature)}`;
    const changed = changedNames(table, settings).filter((name) => table.labels[name] && !(name in presetValues));
    button.toggleAttribute("data-changed", changed.length > 0);
    const names = changed.map((name) => texts[table.labels[name]]);
    const more = names.length ? ` · ${texts["settings.changed"]}: ${names.join(", ")}` : "";
    button.title = `${texts["composer.preset"]}: ${label.textContent}${more}`;
    button.setAttribute("aria-label", button.title);
    for (const item of items) item.setAttribute("aria-checked", String(item.value === preset));
  };
  document.addEventListener("phi3-settings", draw);
  draw();
  return [button, menu];
}
