/** Closes the sidebars on a narrow screen, where they are drawers over the chat. */
export default function collapseSidebars() {
  for (const sidebar of document.querySelectorAll(".sidebar")) {
    const settle = () => sidebar.dataset.settled = "yes";
    if (globalThis.innerWidth > 1000 || !sidebar.classList.contains("open")) {
      settle();
      continue;
    }
    sidebar.addEventListener("transitionend", settle, { once: true });
    sidebar.querySelector(".toggle-button").click();
  }
}
