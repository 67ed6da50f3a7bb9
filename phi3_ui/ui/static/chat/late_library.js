/**
 * A library that is fetched when it is first needed, as `load` does. What needs it is drawn without it until then, and once
 * more when it is there.
 */
export default class LateLibrary {
  constructor(load) {
    this.load = load;
    this.value = null;
    this.loading = null;
    this.waiting = new Set();
  }

  /** The library, or null while it is fetched; `redraw` is called once it is there. */
  get(redraw) {
    if (this.value) return this.value;
    this.waiting.add(redraw);
    this.loading ??= this.fetch();
    return null;
  }

  async fetch() {
    try {
      this.value = await this.load();
    } catch (error) {
      console.error(error); // the next drawing tries again
    }
    this.loading = null;
    if (!this.value) return;
    for (const redraw of this.waiting) redraw();
    this.waiting.clear();
  }
}
