/**
 * A view that covers the chat while its component's value is not empty. It gets the focus when it opens; Escape closes it,
 * and the focus returns to what opened it. The style sheet reads the name of the open view from the centre's attribute.
 */
export default function manageView(name, element, props, watch) {
  let opener = null;
  const centre = () => document.querySelector("#phi3-centre");
  const isOpen = () => centre().dataset.view === name;

  const draw = () => {
    const open = Boolean(props.value);
    if (open === isOpen()) return;
    if (open) {
      opener = document.activeElement;
      centre().dataset.view = name;
      element.querySelector("h2")?.focus({ preventScroll: true });
    } else {
      delete centre().dataset.view;
      restoreFocus();
    }
  };

  // The button may have been drawn again, or be in a drawer that is closed by now.
  const restoreFocus = () => {
    if (document.activeElement !== document.body && document.activeElement?.checkVisibility()) return;
    const same = opener?.name && document.querySelector(`button[name="${opener.name}"][value="${opener.value}"]`);
    const target = [opener, same, document.querySelector("#phi3-message textarea")].find((one) =>
      one?.isConnected && one !== document.body && one.checkVisibility({ visibilityProperty: true })
    );
    target?.focus({ preventScroll: true });
  };

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || event.defaultPrevented || !isOpen()) return;
    event.preventDefault();
    element.querySelector(".phi3-close")?.click();
  });
  watch("value", draw);
  draw();
}
