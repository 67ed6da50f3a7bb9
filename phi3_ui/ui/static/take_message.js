/**
 * Takes the text of the message box once, with the attached files: a second press of Enter or Send before the server has
 * emptied the box sends nothing. What is typed meanwhile stays in the box. Used as
 *   takeMessage().take(...values) before sending, with the text as the first value;
 *   takeMessage().settle() when the box has changed;
 *   takeMessage().release() once the question is answered or refused.
 */
export default function takeMessage() {
  if (globalThis.phi3MessageTaker) return globalThis.phi3MessageTaker;
  let typed = null; // what the user has made of the text since it was taken
  let repeated = 0; // presses that sent nothing and have not ended yet
  const isMessageBox = (element) => element.matches?.("#phi3-message textarea");
  document.addEventListener("input", (event) => {
    if (isMessageBox(event.target)) typed = event.target.value;
  }, true);
  const forget = () => {
    globalThis.phi3TakenMessage = typed = null;
  };
  const release = () => {
    if (repeated) repeated--;
    else {
      forget();
      globalThis.phi3Composer?.release();
    }
  };
  const take = (text, ...others) => {
    if (text === globalThis.phi3TakenMessage) {
      repeated++;
      return ["", ...others];
    }
    globalThis.phi3TakenMessage = text;
    typed = null;
    return [globalThis.phi3Composer?.take(text) ?? text, ...others];
  };
  const settle = () => {
    const taken = globalThis.phi3TakenMessage;
    const box = document.querySelector("#phi3-message textarea");
    const text = box.value; // that of the event may be older than what has been typed since
    if (taken === null || taken === undefined || text === taken || text === typed && text !== "") return;
    const kept = typed === null ? "" : typed.startsWith(taken) ? typed.slice(taken.length) : typed;
    forget();
    if (text !== "" || kept === "") return;
    box.value = kept;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  };
  return globalThis.phi3MessageTaker = { take, settle, release };
}
