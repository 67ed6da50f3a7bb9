/**
 * One tab stop for all messages: the buttons of the last answer. The arrow keys move to the buttons beside it (left, right)
 * and to those of other messages (up, down, also Home and End).
 */
const BUTTONS = ".phi3-icon, .phi3-action";

/** `prepare` is called with a message before its buttons are queried. */
export default function rove(log, prepare) {
  let stop = null;
  let column = ""; // name of the button that the arrow keys look for in other messages
  let isAcross = false;

  const setStop = (button) => {
    if (stop && stop !== button) stop.tabIndex = -1;
    stop = button ?? null;
    if (stop) stop.tabIndex = 0;
  };
  const find = (row) => {
    if (!row) return [];
    prepare(row);
    return [...row.querySelectorAll(BUTTONS)].filter((button) => button.checkVisibility());
  };
  const rows = () => [...log.querySelectorAll(".message-row")];
  const hasButtons = (row) => find(row).length > 0;

  log.addEventListener("focusin", ({ target }) => {
    if (!target.matches(BUTTONS)) return;
    setStop(target);
    if (!isAcross) column = target.name;
  });
  log.addEventListener("keydown", (event) => {
    const button = event.target;
    if (!button.matches(BUTTONS) || event.altKey || event.ctrlKey || event.metaKey) return;
    const row = button.closest(".message-row");
    const inRow = find(row);
    const sideways = (step) => inRow.at((inRow.indexOf(button) + step) % inRow.length);
    const across = (target) => {
      const found = find(target);
      return found.find(({ name }) => name === column) ?? found[0];
    };
    const next = {
      ArrowRight: () => sideways(1),
      ArrowLeft: () => sideways(-1),
      ArrowUp: () => across(rows().slice(0, rows().indexOf(row)).findLast(hasButtons)),
      ArrowDown: () => across(rows().slice(rows().indexOf(row) + 1).find(hasButtons)),
      Home: () => across(rows().find(hasButtons)),
      End: () => across(rows().findLast(hasButtons)),
    }[event.key]?.();
    if (!next) return;
    event.preventDefault();
    isAcross = !event.key.match(/Left|Right/);
    next.focus();
    isAcross = false;
  });

  return {
    /** Call after the messages have changed: the old stop may be far from where the user reads. */
    reset: () => {
      if (stop?.isConnected && stop === document.activeElement) return;
      setStop(find(rows().findLast(hasButtons))[0]);
    },
    focus: () => stop?.focus({ preventScroll: true }),
  };
}
