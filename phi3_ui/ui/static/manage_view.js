/**
 * A view that covers the chat while its component's value is not empty. It gets the focus when it opens; Escape closes it,
 * and the focus returns to its opener. Views may cover one another: the centre's attributes list the open ones, in the order
 * in which they were opened, and the one on top, which the style sheet shows.
 */
export default function manageView(name, element, props, watch) {
  let opener = null;
  const centre = () => document.querySelector("#phi3-centre");
  const listOpen = () => (centre().dataset.open ?? "").split(" ").filter(Boolean);
  const isOnTop = () => centre().dataset.view === name;

  const draw = () => {
    const open = Boolean(props.value);
    const others = listOpen().filter((other) => other !== name);
    const wasOpen = others.length < listOpen().length;
    if (open === wasOpen) return;
    if (open) opener = document.activeElement;
    show(open ? [...others, name] : others);
    if (open) element.querySelector("h2")?.focus({ preventScroll: true });
    else restoreFocus();
  };

  const show = (names) => {
    centre().dataset.open = names.join(" ");
    if (names.length > 0) centre().dataset.view = names.at(-1);
    else delete centre().dataset.view;
  };

  // The button may have been redrawn, or be in a drawer that has been closed.
  const restoreFocus = () => {
    if (document.activeElement !== document.body && document.activeElement?.checkVisibility()) return;
    const same = opener?.name && document.querySelector(`button[name="${opener.name}"][value="${opener.value}"]`);
    const target = [opener, same, document.querySelector("#phi3-message textarea")].find((one) =>
      one?.isConnected && one !== document.body && one.checkVisibility({ visibilityProperty: true })
    );
    target?.focus({ preventScroll: true });
  };

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || !isOnTop()) return;
    if (document.querySelector(":popover-open")) return; // Escape closes that one
    event.preventDefault();
    element.querySelector(".phi3-close")?.click();
  });
  watch("value", draw);
  draw();
}
