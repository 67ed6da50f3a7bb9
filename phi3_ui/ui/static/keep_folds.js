/** Keeps a component's folds open or closed, as the user left them, across redraws. */
export default function keepFolds(element, watch) {
  const open = new Map();
  const folds = () => [...element.querySelectorAll("details")];
  element.addEventListener("toggle", ({ target }) => open.set(folds().indexOf(target), target.open), true);
  watch("value", () => folds().forEach((fold, index) => fold.open = open.get(index) ?? fold.open));
}
