/** The menu of an answer's less common actions: a single popover, which each "more" button fills before it opens. */
import { create, createButton } from "./dom.js";
import drawIcon from "./icons.js";

const WIDTH = 320; // pixels, as in menus.css
const GAP = 4;

export default function createMenu(element, label) {
  const menu = create("div", "phi3-menu", { popover: "auto", role: "menu", "aria-label": label });
  let opener = null;
  element.append(menu);

  menu.addEventListener("keydown", (event) => {
    const items = [...menu.children];
    const at = items.indexOf(document.activeElement);
    const next = {
      ArrowDown: items[(at + 1) % items.length],
      ArrowUp: items.at(at - 1),
      Home: items[0],
      End: items.at(-1),
      Escape: opener,
    }[event.key];
    if (!next) return;
    event.preventDefault();
    event.stopPropagation();
    if (next === opener) menu.hidePopover();
    next.focus();
  });
  menu.addEventListener("click", () => menu.hidePopover());

  /** Creates a button that opens the menu with what `read` returns: actions, and optionally a link. */
  return (read) => {
    const button = createButton("", label, "more", { name: "more", "aria-haspopup": "menu" });
    button.popoverTargetElement = menu;
    button.addEventListener("click", () => {
      opener = button;
      const { actions, link } = read();
      menu.replaceChildren(...actions.map(drawItem), ...link ? [drawLink(link)] : []);
      if (menu.firstChild) menu.firstChild.autofocus = true;
      const place = button.getBoundingClientRect();
      menu.style.left = `${Math.max(GAP, Math.min(place.left, innerWidth - WIDTH - GAP))}px`;
      menu.style.bottom = `${innerHeight - place.top + GAP}px`;
    });
    return button;
  };
}

function drawItem({ name, value, label, icon }) {
  const item = create(
    "button",
    "phi3-action",
    { type: "button", role: "menuitem", tabindex: "-1", name, value },
    label,
  );
  item.prepend(drawIcon(icon));
  return item;
}

function drawLink({ url, label, title }) {
  const attributes = { role: "menuitem", tabindex: "-1", href: url, target: "_blank", rel: "noopener" };
  const item = create("a", "", attributes, title || label);
  item.prepend(drawIcon("external"));
  return item;
}
