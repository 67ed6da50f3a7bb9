/**
 * The menus behind the buttons with `data-menu`: "chat" for one chat, whose id is the button's value, "share" and
 * "preferences". One is open at a time, outside the list, which may be redrawn meanwhile.
 * `preferences` is the result of preferences.js, `icons` the address of icons.svg. Items that are action buttons are handled
 * by actions.js.
 */
export default function manageMenus(preferences, texts, icons) {
  if (globalThis.phi3Menus) return;
  globalThis.phi3Menus = true;
  const LANGUAGES = { en: "English", ro: "Română" };
  let open = null; // { menu, kind, value }

  const kinds = {
    chat(value, button) {
      const isPinned = button.closest("[data-pinned]") !== null;
      return [
        action("rename", value, "edit", texts["chats.rename"]),
        action(isPinned ? "unpin" : "pin", value, "pin", texts[isPinned ? "chats.unpin" : "chats.pin"]),
        action("save_markdown", value, "share", texts["share.markdown"]),
        action("save_json", value, "share", texts["share.json"]),
        action("replay", value, "retry", texts.replay),
        separator(),
        action("delete", value, "delete", texts["chats.delete"]),
      ];
    },
    share() {
      return [
        item("attach", texts["share.import"], () => globalThis.phi3Import?.pick()),
        action("save_all", "", "share", texts["share.all"]),
      ];
    },
    preferences() {
      const themes = ["system", "light", "dark"].map((name) =>
        choice(texts[`theme.${name}`], preferences.theme() === name, () => preferences.setTheme(name))
      );
      const languages = Object.entries(LANGUAGES).map(([code, name]) => {
        const shown = choice(name, preferences.language() === code, () => preferences.setLanguage(code));
        shown.lang = code;
        return shown;
      });
      return [
        group(texts["preferences.theme"], themes),
        separator(),
        group(texts["preferences.language"], languages),
      ];
    },
  };

  function item(icon, label, onSelect) {
    const button = document.createElement("button");
    button.setAttribute("role", "menuitem");
    button.tabIndex = -1;
    button.innerHTML = `<svg class="phi3-svg" aria-hidden="true"><use href="${icons}#${icon}"/></svg>`;
    button.append(label);
    if (onSelect) button.addEventListener("click", onSelect);
    return button;
  }

  function action(name, value, icon, label) {
    const button = item(icon, label);
    button.className = "phi3-action";
    Object.assign(button, { name, value });
    return button;
  }

  function choice(label, isChosen, onSelect) {
    const button = item("check", label, onSelect);
    button.setAttribute("role", "menuitemradio");
    button.setAttribute("aria-checked", String(isChosen));
    return button;
  }

  function group(label, items) {
    const element = document.createElement("div");
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", label);
    const heading = document.createElement("div");
    heading.className = "phi3-menu-heading";
    heading.setAttribute("aria-hidden", "true");
    heading.textContent = label;
    element.append(heading, ...items);
    return element;
  }

  function separator() {
    const line = document.createElement("hr");
    line.setAttribute("role", "separator");
    return line;
  }

  const items = () => [...open.menu.querySelectorAll("[role^=menuitem]")];
  // The list may have been redrawn, so the button is found by its purpose.
  const opener = ({ kind, value }) =>
    [...document.querySelectorAll(`button[data-menu="${kind}"]`)].find((button) => button.value === value);

  function show(button) {
    const { menu: kind } = button.dataset;
    const menu = document.createElement("div");
    menu.className = "phi3-menu";
    menu.setAttribute("role", "menu");
    menu.setAttribute("aria-label", button.getAttribute("aria-label"));
    menu.append(...kinds[kind](button.value, button));
    document.querySelector("#phi3-shell").append(menu);
    place(menu, button.getBoundingClientRect());
    button.setAttribute("aria-expanded", "true");
    open = { menu, kind, value: button.value };
    (menu.querySelector("[aria-checked=true]") ?? items()[0]).focus({ preventScroll: true });
  }

  // Below the button, or above it where there is no room; never outside the window.
  function place(menu, { left, right, top, bottom }) {
    const MARGIN = 8; // pixels
    const { offsetWidth: width, offsetHeight: height } = menu;
    const below = bottom + 4 + height <= innerHeight - MARGIN;
    const isLeftToRight = left + width <= innerWidth - MARGIN;
    menu.style.top = `${Math.max(MARGIN, below ? bottom + 4 : top - 4 - height)}px`;
    menu.style.left = `${Math.max(MARGIN, isLeftToRight ? left : right - width)}px`;
  }

  function close(returnsFocus) {
    if (!open) return;
    const closed = open;
    open = null;
    const button = opener(closed);
    button?.setAttribute("aria-expanded", "false");
    if (returnsFocus) button?.focus({ preventScroll: true });
    closed.menu.remove();
  }

  function moveFocus(key) {
    const all = items();
    const at = all.indexOf(document.activeElement);
    const next = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      Home: 0,
      End: -1,
    }[key];
    all.at(next % all.length).focus();
  }

  // Capture the keys before the panels, which Escape closes, too.
  globalThis.addEventListener("keydown", (event) => {
    if (!open) return;
    if (event.key === "Escape" || event.key === "Tab") close(true);
    else if (["ArrowDown", "ArrowUp", "Home", "End"].includes(event.key)) moveFocus(event.key);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }, true);
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-menu]");
    const isAgain = button && open && button === opener(open);
    const isInside = open?.menu.contains(event.target);
    if (isInside && !event.target.closest("button")) return;
    close(isInside || isAgain);
    if (button && !isAgain && kinds[button.dataset.menu]) show(button);
  });
  document.addEventListener("scroll", (event) => {
    if (event.target.id === "phi3-chats") close(false);
  }, true);
  globalThis.addEventListener("resize", () => close(false));
}
