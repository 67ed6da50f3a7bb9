/** The files attached to the question being written. */
import LOCALE from "../locale.js";
import { formatFile, joinFiles } from "../attached_files.js";
import drawIcon from "../chat/icons.js";
import { createElement, createIconButton, fillIn } from "../dom.js";
import readText, { MAX_CHARACTERS, RefusedFile } from "./read_text.js";

export default class Attachments {
  /** `onChange` is called after a file is added or removed; `key` is the storage key; `box()` returns the field that gets the focus. */
  constructor(texts, onChange, { key, box }) {
    Object.assign(this, { texts, onChange, key, box });
    this.chips = createElement("ul", "phi3-files");
    this.refusals = createElement("div", "phi3-refusals", { role: "alert" });
    this.node = createElement("div", "phi3-attachments", {}, this.refusals, this.chips);
    this.files = this.load();
    addEventListener("pagehide", () => this.save());
    document.addEventListener("click", (event) => {
      if (event.target.closest?.(".phi3-logout")) this.files = []; // the next user of the tab may be someone else
    });
    this.draw();
  }

  get count() {
    return this.files.length;
  }

  /** The files for the server to count, each in the form it has in a question. */
  get data() {
    return this.files.map((file) => ({ id: file.id, name: file.name, text: formatFile(file) }));
  }

  compose(typed) {
    return this.count ? joinFiles(this.files, typed) : typed;
  }

  async add(files) {
    this.refusals.replaceChildren();
    for (const file of files) {
      try {
        this.push(file.name, await readText(file));
      } catch (error) {
        if (!(error instanceof RefusedFile)) throw error;
        const count = MAX_CHARACTERS.toLocaleString(LOCALE);
        this.refuse(fillIn(this.texts[error.message], { name: file.name, count }));
      }
    }
    this.draw();
    this.onChange();
  }

  /** Replaces the attached files; `files` have `name` and `text`. */
  replace(files) {
    this.refusals.replaceChildren();
    this.files = [];
    for (const { name, text } of files) this.push(name, text);
    this.draw();
    this.onChange();
  }

  push(name, text) {
    this.files.push({ id: crypto.getRandomValues(new Uint32Array(2)).join("-"), name, text });
  }

  remove(ids) {
    this.files = this.files.filter(({ id }) => !ids.includes(id));
    this.draw();
    this.onChange();
  }

  /** Shows the server's counts; a file too long for the context is removed, and the reason shown. */
  showCounts(counts) {
    const refused = counts.filter(({ id, refusal }) => refusal && this.files.some((file) => file.id === id));
    for (const { id, label } of counts) {
      const file = this.files.find((file) => file.id === id);
      if (file) file.label = label;
    }
    if (refused.length) {
      this.refusals.replaceChildren();
      for (const { refusal } of refused) this.refuse(refusal);
      this.remove(refused.map(({ id }) => id));
    } else {
      for (const chip of this.chips.children) {
        chip.querySelector("small").textContent = this.files.find(({ id }) => id === chip.dataset.id)?.label ?? "";
      }
    }
  }

  refuse(sentence) {
    this.refusals.append(createElement("p", "", {}, sentence));
  }

  draw() {
    const ids = this.files.map(({ id }) => id);
    for (const chip of [...this.chips.children]) if (!ids.includes(chip.dataset.id)) chip.remove();
    const drawn = [...this.chips.children].map((chip) => chip.dataset.id);
    for (const file of this.files) if (!drawn.includes(file.id)) this.chips.append(this.drawChip(file));
    this.chips.hidden = !this.count;
  }

  drawChip(file) {
    const summary = createElement(
      "summary",
      "",
      {},
      drawIcon("file"),
      createElement("span", "", { dir: "auto" }, file.name),
    );
    summary.append(createElement("small", "", {}, file.label ?? ""));
    const details = createElement("details", "phi3-file", {}, summary);
    details.addEventListener("toggle", () => {
      details.querySelector("pre")?.remove();
      if (details.open) details.append(createElement("pre", "", { tabindex: 0 }, file.text));
    });
    const remove = createIconButton(drawIcon("close"), fillIn(this.texts["attach.remove"], { name: file.name }));
    remove.addEventListener("click", () => {
      this.refusals.replaceChildren();
      this.remove([file.id]);
      this.box()?.focus();
    });
    return createElement("li", "", { "data-id": file.id }, details, remove);
  }

  /** Loads the files that this tab held before a reload. */
  load() {
    try {
      const saved = JSON.parse(sessionStorage.getItem(this.key)) ?? [];
      sessionStorage.removeItem(this.key);
      return saved;
    } catch (error) {
      console.info("This browser blocks session storage:", error);
      return [];
    }
  }

  save() {
    try {
      if (this.count) sessionStorage.setItem(this.key, JSON.stringify(this.files));
      else sessionStorage.removeItem(this.key);
    } catch (error) {
      console.info("The attached files are not kept across a reload:", error);
    }
  }
}
