/** The settings as the page's controls have them now. They change through Gradio, and record_settings.js tells of it. */

/** By name; the defaults until a control has changed. `table` is that of page/presets.py. */
export function currentSettings(table) {
  return { ...table.defaults, ...globalThis.phi3Settings };
}

/** Whether two values of a control mean the same: an empty field is null, undefined or "". */
export function isSame(one, other) {
  const isEmpty = (value) => value === null || value === undefined || value === "";
  if (isEmpty(one) || isEmpty(other)) return isEmpty(one) && isEmpty(other);
  return typeof one === "number" || typeof other === "number" ? Number(one) === Number(other) : one === other;
}

/** The name of the preset with these values, else "custom". */
export function findPreset(table, settings) {
  const found = table.presets.find(({ values }) =>
    Object.entries(values).every(([name, value]) => isSame(settings[name], value))
  );
  return found?.name ?? "custom";
}

/** Names of the settings that differ from their defaults. */
export function changedNames(table, settings) {
  return Object.keys(table.defaults).filter((name) => !isSame(settings[name], table.defaults[name]));
}

let apply = () => {};

/** Set these settings, by name. */
export function applySettings(values) {
  apply(values);
}

/** The component that reaches the server says how settings are set. */
export function setApplier(applier) {
  apply = applier;
}
