/**
 * The panels beside the chat: docked while there is room for them, otherwise drawers over the chat, also after a resize.
 * The open state of a docked panel is remembered permanently, that of a drawer as long as the tab is open. Escape, a tap outside,
 * or a change of what is docked closes a drawer. A comparison takes the docked right panel's place until it is closed, or the
 * panel is opened again.
 *
 * Buttons with `data-panel="left"` or `"right"` open and close a panel, and get its name from `labels`. The style sheet
 * reads the state of both from the shell's attributes. Each component with such a button calls this once it is drawn.
 * Other scripts use `globalThis.phi3Panels`: `open(side)` and `closeDrawers()`.
 */
export default function managePanels(labels) {
  if (globalThis.phi3Panels) return globalThis.phi3Panels.draw();
  const KEY = "phi3-panels", DRAWER_KEY = "phi3-drawer";
  const NARROW = { left: matchMedia("(width < 1000px)"), right: matchMedia("(width < 1280px)") };
  const SIDES = Object.keys(NARROW);
  const docked = { left: true, right: true, ...load(localStorage, KEY) };
  const drawer = { left: false, right: false };
  let isCovered = false; // the docked right panel, by a comparison
  let opener = null; // the focused element before a drawer was opened

  const shell = document.querySelector("#phi3-shell");
  const landmark = { role: "complementary", "aria-label": labels.right }; // the left one has a landmark: the list's navigation
  for (const [name, value] of Object.entries(landmark)) document.querySelector("#phi3-right").setAttribute(name, value);
  const panel = (side) => document.querySelector(`#phi3-${side}`);
  const states = (side) => NARROW[side].matches ? drawer : docked;
  const isOpen = (side) => states(side)[side] && !(side === "right" && isCovered && !NARROW.right.matches);
  const openDrawer = () => SIDES.find((side) => NARROW[side].matches && drawer[side]);

  function draw() {
    for (const side of SIDES) {
      shell.setAttribute(
        `data-${side}`,
        `${isOpen(side) ? "open" : "closed"} ${NARROW[side].matches ? "drawer" : "docked"}`,
      );
      panel(side).inert = !isOpen(side);
      for (const button of document.querySelectorAll(`[data-panel="${side}"]`)) {
        button.setAttribute("aria-expanded", String(isOpen(side)));
        button.setAttribute("aria-controls", `phi3-${side}`);
        button.title = labels[side];
        button.setAttribute("aria-label", labels[side]);
      }
    }
  }

  function set(side, open) {
    if (isOpen(side) === open) return;
    if (NARROW[side].matches) {
      for (const other of SIDES) drawer[other] = open && other === side;
      save(sessionStorage, DRAWER_KEY, drawer);
      if (open) opener = document.activeElement;
    } else {
      docked[side] = open;
      if (side === "right") isCovered = false;
      save(localStorage, KEY, docked);
    }
    draw();
    if (!NARROW[side].matches) return;
    if (open) firstFocusable(panel(side))?.focus({ preventScroll: true });
    else if (opener?.isConnected) opener.focus({ preventScroll: true });
  }

  function firstFocusable(element) {
    const candidates = [...element.querySelectorAll('button, input, textarea, a[href], [tabindex="0"]')];
    return candidates.find((candidate) => candidate.checkVisibility({ visibilityProperty: true }));
  }

  function adaptToWindow() {
    for (const side of SIDES) drawer[side] = false;
    save(sessionStorage, DRAWER_KEY, drawer);
    draw();
  }

  function closeDrawers() {
    const side = openDrawer();
    if (side) set(side, false);
    return Boolean(side);
  }

  function load(storage, key) {
    try {
      return JSON.parse(storage.getItem(key)) ?? {};
    } catch (error) {
      console.info("The state of the panels is not remembered:", error);
      return {};
    }
  }

  function save(storage, key, state) {
    try {
      storage.setItem(key, JSON.stringify(state));
    } catch (error) {
      console.info("The state of the panels is not remembered:", error);
    }
  }

  document.addEventListener("click", (event) => {
    const side = event.target.closest?.("[data-panel]")?.dataset.panel;
    if (side) set(side, !isOpen(side));
    else if (event.target.id === "phi3-scrim") closeDrawers();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented && closeDrawers()) event.preventDefault();
  }, true);
  const centre = document.querySelector("#phi3-centre");
  let isComparing = false;
  new MutationObserver(() => {
    const wasComparing = isComparing;
    isComparing = (centre.dataset.open ?? "").split(" ").includes("compare");
    if (isComparing === wasComparing) return;
    isCovered = isComparing;
    draw();
  }).observe(centre, { attributeFilter: ["data-open"] });
  for (const query of Object.values(NARROW)) query.addEventListener("change", adaptToWindow);
  for (const side of SIDES) drawer[side] = NARROW[side].matches && load(sessionStorage, DRAWER_KEY)[side] === true;
  draw();
  globalThis.phi3Panels = { open: (side) => set(side, true), closeDrawers, draw };
}
