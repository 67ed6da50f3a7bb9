/**
 * Lets every text field, also one that is drawn later, read in the direction of what it holds.
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
