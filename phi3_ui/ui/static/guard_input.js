/** Blocks keys and clicks from targets they are not meant for. Runs once, before anything else handles them. */
export default function guardInput() {
  guardComposition();
  guardDoubleClicks();

  // While an input method is composing, Enter accepts its text and Escape discards it. Safari ends the composition before
  // it reports the key that did so, whose code is still the input method's.
  function guardComposition() {
    const INPUT_METHOD = 229;
    for (const type of ["keydown", "keypress", "keyup"]) {
      globalThis.addEventListener(type, (event) => {
        if (event.isComposing || event.keyCode === INPUT_METHOD) event.stopImmediatePropagation();
      }, true);
    }
  }

  // The second click of a double click must not press a button that has just appeared under the pointer, such as Stop in
  // place of Send, nor ask a question twice. A click by keyboard or script has no position.
  function guardDoubleClicks() {
    const MILLISECONDS = 500;
    const PIXELS = 10;
    const asks = (button) =>
      button.matches(
        "#phi3-send, #phi3-stop, button.phi3-action:is([name=retry], [name=continue], [name=start]), .phi3-save",
      );
    // Survives a redraw; paging through the versions of an answer changes the value of its buttons.
    const identify = ({ id, name, value, textContent }) =>
      id || JSON.stringify(name ? [name, name === "show" || value] : [textContent]);
    let last = { time: -Infinity };
    globalThis.addEventListener("click", (event) => {
      const button = event.target.closest?.("button");
      if (!button) return;
      const { timeStamp: time, clientX: x, clientY: y } = event;
      const identity = identify(button);
      const isSecond = time - last.time < MILLISECONDS && Math.hypot(x - last.x, y - last.y) < PIXELS;
      if (isSecond && (identity === last.identity ? asks(button) : event.detail > 0)) {
        event.stopImmediatePropagation();
        event.preventDefault();
        return;
      }
      last = { identity, time, x, y };
    }, true);
  }
}
