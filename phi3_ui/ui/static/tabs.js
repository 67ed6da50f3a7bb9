/**
 * The tabs of the right panel. Gradio's own tabs are mounted only once opened, and ignore events until then; here every tab
 * exists from the start, and the style sheet hides those that are not selected.
 *
 * The selected one is remembered. `strip` contains the buttons: `role="tab"`, with the tab's name as value; `labels` has their
 * texts by `tab.NAME`. Other scripts use `globalThis.phi3Tabs.show(name)`.
 */
export default function manageTabs(strip, labels) {
  const KEY = "phi3-tab";
  const panel = document.querySelector("#phi3-right");
  const tabs = [...strip.querySelectorAll('[role="tab"]')];

  function show(name) {
    remember(name);
    panel.setAttribute("data-tab", name);
    for (const tab of tabs) {
      const isSelected = tab.value === name;
      tab.setAttribute("aria-selected", String(isSelected));
      tab.tabIndex = isSelected ? 0 : -1;
    }
  }

  function remember(name) {
    try {
      localStorage.setItem(KEY, name);
    } catch (error) {
      console.info("The tab is not remembered:", error);
    }
  }

  function recall() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // already logged by `remember`
    }
  }

  for (const tab of tabs) {
    tab.textContent = labels[`tab.${tab.value}`];
    const content = document.querySelector(`#phi3-tab-${tab.value}`);
    content.setAttribute("role", "tabpanel");
    content.setAttribute("aria-labelledby", tab.id);
    tab.setAttribute("aria-controls", content.id);
    tab.addEventListener("click", () => show(tab.value));
  }
  strip.addEventListener("keydown", (event) => {
    const from = tabs.indexOf(event.target);
    const to = { ArrowRight: from + 1, ArrowLeft: from - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (from < 0 || to === undefined) return;
    event.preventDefault();
    const tab = tabs[(to + tabs.length) % tabs.length];
    show(tab.value);
    tab.focus();
  });
  const names = tabs.map(({ value }) => value);
  show(names.includes(recall()) ? recall() : names[0]);
  globalThis.phi3Panels?.draw(); // names the drawer's close button
  globalThis.phi3Tabs = { show };
}
