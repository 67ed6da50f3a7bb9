/**
 * Draws a replay from the component's value, the Comparison of render/replay.py: each question with the old and the new
 * answer side by side, formatted, or with their differences marked if the user asks for it.
 */
import renderBlocks from "./markdown.js";

export default function showComparison(element, props, watch) {
  const head = create("div", "head");
  const names = [create("span", "name"), create("span", "name")];
  const toggle = Object.assign(create("button", "phi3-toggle-differences"), { type: "button" });
  const turns = create("div", "turns");
  const totals = create("table", "phi3-table-figures");
  const scroll = create("div", "phi3-scroll");
  const root = create("div", "phi3-comparison");
  const second = create("div", "second");
  second.append(names[1], toggle);
  head.append(names[0], second);
  scroll.append(totals);
  root.append(head, turns, scroll);
  let drawn = []; // the drawn turns, as JSON
  let marked = false;

  const draw = () => {
    const comparison = props.value;
    if (!comparison?.turns) return root.remove();
    if (!root.isConnected) element.append(root);
    const { labels } = comparison;
    names[0].textContent = labels.old;
    names[1].textContent = labels.new;
    toggle.textContent = labels.differences;
    toggle.setAttribute("aria-pressed", String(marked));
    const now = comparison.turns.map((turn) => JSON.stringify([turn, marked]));
    while (turns.children.length > now.length) turns.lastChild.remove();
    now.forEach((text, index) => {
      if (text === drawn[index] && turns.children[index]) return;
      const node = drawTurn(comparison.turns[index], labels, marked);
      if (turns.children[index]) turns.children[index].replaceWith(node);
      else turns.append(node);
    });
    drawn = now;
    drawTotals(totals, comparison.totals);
    keepFocus();
  };

  toggle.addEventListener("click", () => {
    marked = !marked;
    draw();
  });
  watch("value", draw);
  draw();
}

/** Start and Stop replace each other: the one that gets hidden passes the focus to the other. */
function keepFocus() {
  const lost = document.activeElement;
  if (lost !== document.body && lost?.id !== "phi3-replay-start" && lost?.id !== "phi3-replay-stop") return;
  requestAnimationFrame(() => {
    const buttons = [...document.querySelectorAll("#phi3-replay-start, #phi3-replay-stop")];
    if (document.activeElement === document.body || !document.activeElement.checkVisibility()) {
      buttons.find((button) => button.checkVisibility())?.focus({ preventScroll: true });
    }
  });
}

function drawTurn({ question, old, new: replayed }, labels, marked) {
  const turn = create("section", "turn");
  const title = Object.assign(create("h3", "question", question), { dir: "auto" });
  const sides = create("div", "sides");
  sides.append(drawSide(old, labels.old, marked), drawSide(replayed, labels.new, marked));
  turn.append(title, sides);
  return turn;
}

function drawSide({ model, text, pieces, error, metrics }, label, marked) {
  const side = create("div", "side");
  const which = create("p", "which");
  which.append(create("span", "label", model ? `${label} · ` : label), model);
  side.append(which);
  if (marked && pieces.length) side.append(drawPieces(pieces));
  else if (text) {
    const written = create("div", "phi3-written");
    const draw = () => written.innerHTML = renderBlocks(text, draw).join("");
    draw();
    side.append(written);
  }
  if (error) side.append(create("p", "phi3-error", error));
  if (metrics) side.append(create("p", "phi3-quiet", metrics));
  return side;
}

function drawPieces(pieces) {
  const marks = Object.assign(create("p", "text"), { dir: "auto" });
  const TAGS = { only_left: "del", only_right: "ins" };
  marks.append(...pieces.map(([kind, text]) => TAGS[kind] ? create(TAGS[kind], "", text) : text));
  return marks;
}

function drawTotals(table, rows) {
  table.replaceChildren(...rows.map((cells, index) => {
    const row = create("tr", "");
    row.append(...cells.map((cell, column) => {
      const isHead = index === 0 ? column > 0 : column === 0;
      const node = create(isHead ? "th" : "td", "", cell);
      if (isHead) node.scope = index === 0 ? "col" : "row";
      return node;
    }));
    return row;
  }));
}

function create(tag, classes, text = "") {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.textContent = text;
  return element;
}
