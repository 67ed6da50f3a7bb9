/**
 * Draws the model menu from the component's value, the groups of render/model_menu.py. The model button opens it.
 *
 * The focus stays in the filter; the arrow keys move through the rows, Enter picks one, Escape closes the menu. Only
 * picking a row changes the selection, which the hidden component `phi3-picker` holds.
 */
import LOCALE from "../locale.js";
import drawIcon from "../chat/icons.js";
import { describe, matches } from "./filter.js";
import { create, createChip, getField, plain, setField, state, subscribe } from "./store.js";

const DATE = new Intl.DateTimeFormat(LOCALE, { dateStyle: "medium", timeStyle: "short" });

export default function showMenu({ element, props, watch, texts }) {
  element.append(new Menu(texts, () => plain(props.value) ?? [], watch).popup);
}

class Menu {
  constructor(texts, read, watch) {
    this.texts = texts;
    this.read = read;
    this.isStale = true;
    this.rows = [];
    this.groups = [];
    this.active = null;
    this.list = create("div", {
      role: "listbox",
      id: "phi3-model-list",
      "aria-label": texts["models.choose"],
    });
    this.none = create("p", { class: "phi3-none", role: "status" });
    this.filter = create("input", {
      type: "text",
      role: "combobox",
      autofocus: true,
      autocomplete: "off",
      spellcheck: "false",
      "aria-expanded": "true",
      "aria-autocomplete": "list",
      "aria-controls": this.list.id,
      "aria-label": texts["models.filter"],
      placeholder: texts["models.filter"],
    });
    this.job = create("span", { class: "phi3-menu-job" });
    this.add = create(
      "button",
      { type: "button", class: "phi3-menu-add" },
      drawIcon("attach"),
      texts.add,
      this.job,
    );
    this.refresh = create(
      "button",
      {
        type: "button",
        class: "phi3-icon phi3-menu-refresh",
        title: texts.refresh,
        "aria-label": texts.refresh,
      },
      drawIcon("retry"),
    );
    this.popup = create(
      "div",
      { id: "phi3-models", popover: "auto" },
      create(
        "div",
        { class: "phi3-menu-filter" },
        drawIcon("search"),
        this.filter,
        this.refresh,
      ),
      this.list,
      this.none,
      this.add,
    );
    this.listen(watch);
  }

  get button() {
    return document.querySelector("#phi3-model");
  }

  listen(watch) {
    watch("value", () => {
      this.isStale = true;
      if (this.isOpen) this.draw();
    });
    subscribe(({ job }) => {
      this.job.textContent = job?.summary ?? "";
      if (this.isOpen) this.drawStates();
    });
    this.popup.addEventListener("beforetoggle", (event) => {
      this.button.setAttribute(
        "aria-expanded",
        String(event.newState === "open"),
      );
      this.isOpen = event.newState === "open";
      if (!this.isOpen) return;
      this.filter.value = "";
      const { left, bottom } = this.button.getBoundingClientRect();
      this.popup.style.setProperty("--menu-left", `${left}px`);
      this.popup.style.setProperty("--menu-top", `${bottom + 6}px`);
      this.draw(); // before any key press can reach it
    });
    this.popup.addEventListener("toggle", (event) => {
      if (event.newState === "open") this.active?.node.scrollIntoView({ block: "nearest" });
    });
    this.popup.addEventListener("keydown", (event) => this.press(event));
    this.filter.addEventListener("input", () => this.show());
    this.list.addEventListener(
      "pointerdown",
      (event) => event.preventDefault(),
    ); // the filter keeps the focus
    this.list.addEventListener(
      "click",
      (event) => this.pick(event.target.closest("[role=option]")),
    );
    this.refresh.addEventListener(
      "click",
      () => document.querySelector("#phi3-refresh").click(),
    );
    this.add.addEventListener("click", () => {
      this.close();
      globalThis.phi3AddModel?.open(this.button);
    });
  }

  /** Creates the rows of the current value, then shows those that match. */
  draw() {
    if (this.isStale) {
      this.isStale = false;
      const groups = this.read();
      this.rows = [];
      this.groups = groups.map((group, at) => this.createGroup(group, `phi3-model-group-${at}`));
      this.list.replaceChildren(...this.groups.map((group) => group.node));
    }
    const current = getField("phi3-picker");
    for (const row of this.rows) {
      row.node.setAttribute("aria-selected", String(row.key === current));
    }
    this.drawStates();
    this.show(this.rows.find((row) => row.key === current));
  }

  createGroup(group, id) {
    const rows = group.rows.map((row) => this.createRow(group.name, row));
    const title = group.name
      ? create(
        "div",
        { class: "phi3-menu-group", id, role: "presentation" },
        group.name,
      )
      : null;
    const problem = group.problem
      ? create("p", { class: "phi3-menu-problem", id: `${id}-problem`, role: "presentation" }, group.problem)
      : null;
    const node = create(
      "div",
      {
        role: "group",
        "aria-labelledby": group.name && id,
        "aria-describedby": problem?.id,
      },
      title,
      problem,
      ...rows.map((row) => row.node),
    );
    const text = describe(group.name, { name: group.problem, facts: [], chips: [] });
    return { node, rows, text };
  }

  createRow(group, { key, model, name, facts, created, chips, ready }) {
    const date = created ? [DATE.format(new Date(created))] : [];
    const dot = create("i", { class: "phi3-dot" });
    const line = create("span", { class: "phi3-menu-facts" });
    const state = create("span", { class: "phi3-unseen" });
    const node = create(
      "div",
      {
        role: "option",
        id: `phi3-model-row-${this.rows.length}`,
        "data-key": key,
        "data-alias": key === model ? undefined : "",
        "aria-selected": "false",
      },
      dot,
      create("span", { class: "phi3-menu-name" }, name),
      create("span", { class: "phi3-menu-chips" }, ...chips.map(createChip)),
      line,
      state,
      drawIcon("check"),
    );
    const row = {
      key,
      model,
      node,
      dot,
      facts,
      date,
      line,
      state,
      ready,
      text: describe(group, { name, facts: [...facts, ...date], chips }),
    };
    this.rows.push(row);
    return row;
  }

  /** Draws what changes while users chat: which models are loaded, and how fast they are. */
  drawStates() {
    const { loaded: ids, speeds = {} } = state.status ?? {};
    const loaded = new Set(ids);
    for (const row of this.rows) {
      const isLoaded = loaded.has(row.model);
      const speed = row.key === row.model ? speeds[row.model] : null; // not in alias rows
      row.line.textContent = [...row.facts, ...(speed ? [speed] : []), ...row.date].join(" · ");
      row.dot.className = `phi3-dot ${isLoaded ? "loaded" : "none"}`;
      row.state.textContent = isLoaded ? ` · ${row.ready}` : "";
    }
  }

  /** Shows the rows that match the filter, and makes `row`, or else the first of them, the active one. */
  show(row) {
    for (const one of this.rows) {
      one.node.hidden = !matches(one.text, this.filter.value);
    }
    for (const { node, rows, text } of this.groups) {
      const isShown = rows.length ? rows.some((one) => !one.node.hidden) : matches(text, this.filter.value);
      node.hidden = !isShown;
    }
    const isEmpty = this.groups.every(({ node }) => node.hidden);
    this.none.textContent = isEmpty ? this.texts["models.none_found"] : "";
    this.activate(row && !row.node.hidden ? row : this.shown[0]);
  }

  get shown() {
    return this.rows.filter((row) => !row.node.hidden);
  }

  activate(row) {
    this.active?.node.classList.remove("active");
    this.active = row ?? null;
    if (!row) return this.filter.removeAttribute("aria-activedescendant");
    row.node.classList.add("active");
    row.node.scrollIntoView({ block: "nearest" });
    this.filter.setAttribute("aria-activedescendant", row.node.id);
  }

  press(event) {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      return this.close();
    }
    if (event.target === this.add && event.key === "ArrowUp") {
      event.preventDefault();
      this.filter.focus();
      return this.activate(this.shown.at(-1));
    }
    if (event.target !== this.filter) return;
    const shown = this.shown;
    const at = shown.indexOf(this.active);
    const keys = {
      ArrowDown: () => at === shown.length - 1 ? this.add.focus() : this.activate(shown[at + 1]),
      ArrowUp: () => this.activate(shown[Math.max(at - 1, 0)]),
      PageDown: () => this.activate(shown[Math.min(at + 10, shown.length - 1)]),
      PageUp: () => this.activate(shown[Math.max(at - 10, 0)]),
      Home: () => this.activate(shown[0]),
      End: () => this.activate(shown.at(-1)),
      Enter: () => this.pick(this.active?.node),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  pick(node) {
    if (!node) return;
    this.close();
    if (node.dataset.key !== getField("phi3-picker")) {
      setField("phi3-picker", node.dataset.key);
    }
  }

  close() {
    this.popup.hidePopover();
    this.button.focus({ preventScroll: true });
  }
}
