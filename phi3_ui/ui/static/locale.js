/** The locale of dates and numbers: that of the page's language, as in i18n/translate.py, whatever the browser's is. */
export default globalThis.document?.documentElement.lang === "ro" ? "ro" : "en-GB";
