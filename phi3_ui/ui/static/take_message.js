/**
 * Takes the text of the message box once, with the attached files: a second press of Enter or Send before the server has
 * cleared the box sends nothing. What is typed meanwhile stays in the box, even if the page learns that the box was cleared
 * only after the answer has ended, or learns it twice. Used as
 *   takeMessage().take(...values) before sending, with the text as the first value;
 *   takeMessage().settle() when the box has changed;
 *   takeMessage().release() once the question is answered or refused.
 */
export default function takeMessage() {
  if (globalThis.phi3MessageTaker) return globalThis.phi3MessageTaker;
  let taken = ""; // the last text taken, until it is cleared from the box
  let typed = ""; // the box's content after the user's edits since then
  let repeated = 0; // presses that sent nothing and have not ended yet
  const isMessageBox = (element) => element.matches?.("#phi3-message textarea");
  document.addEventListener("input", (event) => {
    if (isMessageBox(event.target)) typed = event.target.value;
  }, true);
  const release = () => {
    if (repeated) repeated--;
    else {
      globalThis.phi3TakenMessage = null;
      globalThis.phi3Composer?.release();
    }
  };
  const take = (text, ...others) => {
    if (text === globalThis.phi3TakenMessage) {
      repeated++;
      return ["", ...others];
    }
    globalThis.phi3TakenMessage = taken = text;
    typed = "";
    return [globalThis.phi3Composer?.take(text) ?? text, ...others];
  };
  const settle = () => {
    const box = document.querySelector("#phi3-message textarea"); // the event's text may be older than the current content
    if (box.value !== "") return;
    const kept = typed.startsWith(taken) ? typed.slice(taken.length) : typed;
    globalThis.phi3TakenMessage = null;
    taken = typed = "";
    if (kept === "") return;
    box.value = kept;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  };
  return globalThis.phi3MessageTaker = { take, settle, release };
}
