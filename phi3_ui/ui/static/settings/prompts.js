/** The available system prompts: those of chat/presets.py, and the visitor's own, stored in the browser. */

const KEY = "phi3-system-prompts";

/** `{ name, text }` of each saved prompt, oldest first. */
export function loadPrompts() {
  try {
    const saved = JSON.parse(localStorage.getItem(KEY)) ?? [];
    return saved.filter(({ name, text }) => typeof name === "string" && typeof text === "string");
  } catch (error) {
    console.info("The saved system prompts cannot be read:", error);
    return [];
  }
}

/** Saves the prompts; returns whether the browser allowed it. */
export function savePrompts(prompts) {
  try {
    localStorage.setItem(KEY, JSON.stringify(prompts));
  } catch (error) {
    console.info("The system prompts cannot be saved:", error);
    return false;
  }
  document.dispatchEvent(new Event("phi3-system-prompts"));
  return true;
}

/** Returns the name of a system prompt: that of its preset, or "none" or "custom" in the page's language. */
export function nameSystemPrompt(texts, table, text) {
  if ((text ?? "").trim() === "") return texts["system.none"];
  const included = table.prompts.find((name) => texts[`system.${name}.text`] === text);
  if (included) return texts[`system.${included}`];
  return loadPrompts().find((prompt) => prompt.text === text)?.name ?? texts["system.own"];
}
