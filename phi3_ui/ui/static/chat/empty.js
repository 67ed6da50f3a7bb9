/** Draws an empty chat: a heading, a sentence about the app, and starter questions. */
import { create } from "./dom.js";

export default function drawEmpty(texts, starters) {
  const empty = create("div", "phi3-empty");
  const buttons = create("div", "phi3-starters");
  for (const { value, title, about } of starters) {
    const button = create("button", "phi3-action phi3-starter", { type: "button", name: "start", value });
    button.append(create("b", "", {}, title), create("span", "", {}, about));
    buttons.append(button);
  }
  empty.append(create("h2", "", {}, texts["empty.title"]), create("p", "", {}, texts["empty.about"]), buttons);
  return empty;
}
