/**
 * A library that `load` fetches when it is first needed. Until then, its users are drawn without it; they are redrawn once it
 * is loaded.
 */
export default class LateLibrary {
  constructor(load) {
    this.load = load;
    this.value = null;
    this.loading = null;
    this.waiting = new Set();
  }

  /** Returns the library, or null while it is being fetched; `redraw` is called once it is loaded. */
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
      console.error(error); // the next redraw tries again
    }
    this.loading = null;
    if (!this.value) return;
    for (const redraw of this.waiting) redraw();
    this.waiting.clear();
  }
}
