/**
 * The visitor's theme and language, kept in cookies so that the server can render the page accordingly, without a flash.
 * Without a cookie, both follow the browser.
 */
export default function preferences() {
  const YEAR = 365 * 24 * 3600; // seconds
  const isDark = matchMedia("(prefers-color-scheme: dark)");

  const read = (name) => document.cookie.match(`(?:^|; )phi3-${name}=(\\w+)`)?.[1];

  // A Space shows the page in a frame on another host, where only SameSite=None cookies are kept.
  const write = (name, value) => {
    const path = new URL(globalThis.gradio_config?.root || "/", location.href).pathname;
    const site = location.protocol === "https:" ? "SameSite=None; Secure" : "SameSite=Lax";
    document.cookie = `phi3-${name}=${value}; Path=${path}; Max-Age=${value ? YEAR : 0}; ${site}`;
  };

  const theme = () => read("theme") ?? "system";
  const applyTheme = () => {
    document.body.classList.toggle("dark", theme() === "system" ? isDark.matches : theme() === "dark");
  };
  isDark.addEventListener("change", applyTheme); // after Gradio, which follows the system in any case

  return {
    theme,
    language: () => navigator.language.split("-")[0] === "ro" ? "ro" : "en",
    setTheme(value) {
      write("theme", value === "system" ? "" : value);
      applyTheme();
    },
    setLanguage(value) {
      write("language", value);
      location.reload();
    },
  };
}
