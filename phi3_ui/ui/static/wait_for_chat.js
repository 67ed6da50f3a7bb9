/** Resolves once the messages are drawn, however long the set-up takes. */
export default function waitForChat() {
  return new Promise((resolve) => {
    const check = () => document.querySelector("#phi3-chat .phi3-log") ? resolve([]) : setTimeout(check, 50);
    check();
  });
}
