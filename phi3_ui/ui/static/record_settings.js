/**
 * Keeps the current settings, passed in the order of their names, for tab_state.js to save, and notifies static/settings/.
 */
export default function recordSettings(names, values) {
  globalThis.phi3Settings = Object.fromEntries(
    names.map((name, index) => [name, values[index]]),
  );
  document.dispatchEvent(new Event("phi3-settings"));
}
