/** Keeps the folds of a component open or closed, as the user has left them, when it is drawn again. */
export default function keepFolds(element, watch) {
  const open = new Map();
  const folds = () => [...element.querySelectorAll("details")];
  element.addEventListener("toggle", ({ target }) => open.set(folds().indexOf(target), target.open), true);
  watch("value", () => folds().forEach((fold, index) => fold.open = open.get(index) ?? fold.open));
}
