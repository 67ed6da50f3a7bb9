/**
 * Sets the direction of every text field, including those drawn later, to follow its text.
 * Gradio gives each an explicit direction.
 */
export default function setDirections() {
  const fields = 'textarea, input[type="text"], input:not([type])';
  const set = () => {
    for (const field of document.querySelectorAll(fields)) {
      if (field.dir !== "auto") field.dir = "auto";
    }
  };
  set();
  new MutationObserver(set).observe(document.body, {
    childList: true,
    subtree: true,
  });
}
