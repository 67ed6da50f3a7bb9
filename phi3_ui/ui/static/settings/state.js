/** The current settings of the page's controls. They change through Gradio, and record_settings.js reports changes. */

/** Returns the settings by name; the defaults until a control has changed. `table` is that of page/presets.py. */
export function currentSettings(table) {
  return { ...table.defaults, ...globalThis.phi3Settings };
}

/** Whether two values of a control mean the same: an empty field is null, undefined or "". */
export function isSame(one, other) {
  const isEmpty = (value) => value === null || value === undefined || value === "";
  if (isEmpty(one) || isEmpty(other)) return isEmpty(one) && isEmpty(other);
  return typeof one === "number" || typeof other === "number" ? Number(one) === Number(other) : one === other;
}

/** Returns the name of the preset with these values, else "custom". */
export function findPreset(table, settings) {
  const found = table.presets.find(({ values }) =>
    Object.entries(values).every(([name, value]) => isSame(settings[name], value))
  );
  return found?.name ?? "custom";
}

/** Returns the names of the settings that differ from their defaults. */
export function changedNames(table, settings) {
  return Object.keys(table.defaults).filter((name) => !isSame(settings[name], table.defaults[name]));
}

let apply = () => {};

/** Sets these settings, by name. */
export function applySettings(values) {
  apply(values);
}

/** Registers the function of the component that can set settings through the server. */
export function setApplier(applier) {
  apply = applier;
}
