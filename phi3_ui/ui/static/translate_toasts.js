/** Translates the titles of Gradio's notices and the names of their close buttons, which Gradio has only in English. */
export default function translateToasts(texts) {
  const wrap = document.querySelector(".toast-wrap");
  if (!wrap) return;
  const translate = () => {
    for (const toast of wrap.querySelectorAll(".toast-body")) {
      const title = toast.querySelector(".toast-title").firstChild;
      const kind = toast.classList.contains("info") ? "notice.info" : "notice.warning";
      if (title.data !== texts[kind]) title.data = texts[kind];
      const close = toast.querySelector(".toast-close");
      if (close.ariaLabel !== texts.close) close.ariaLabel = texts.close;
    }
  };
  new MutationObserver(translate).observe(wrap, { childList: true, subtree: true });
}
