// A message box whose changes reach the page with a delay, like those of Svelte's components.
import takeMessage from "../../../phi3_ui/ui/static/take_message.js";

const box = new EventTarget();
Object.assign(box, { value: "", matches: () => true });
const listeners = [];
globalThis.document = {
  addEventListener: (_, listener) => listeners.push(listener),
  querySelector: () => box,
};
const input = () => listeners.forEach((listener) => listener({ target: box }));
box.addEventListener("input", input);

const { take, settle, release } = takeMessage();
const type = (text) => {
  box.value += text;
  input();
};
const empty = () => { // as the server does
  box.value = "";
  settle();
};
const results = [];

type("One");
results.push(take("One", "other"), take("One", "other"));
type("Tw");
type("o"); // before the page learns of the text without it
settle();
empty();
results.push(box.value);
release();
release();
results.push(take("Two"));

type(" and three"); // the answer ends before the page learns that the box was cleared
release();
empty();
results.push(box.value);
empty(); // again, by a late update
results.push(box.value);

results.push(take(box.value)); // refused: the box stays as it is
release();
box.value = "";
input(); // by the user, who discards it
settle();
results.push(box.value);
console.log(JSON.stringify(results));
