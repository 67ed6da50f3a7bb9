// A message box whose changes reach the page later than they happen, as those of Svelte's components do.
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
const results = [];

type("One");
results.push(take("One", "other"), take("One", "other"));
type("Tw");
type("o"); // before the page hears of the text without it
settle();
box.value = ""; // by the server
settle();
results.push(box.value);
release();
release();
results.push(take("Two"));
console.log(JSON.stringify(results));
