/** Draws the icon with this id in static/icons.svg, in the colour of the text. */
export default function drawIcon(id) {
  const NAMESPACE = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("class", "phi3-svg");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(NAMESPACE, "use");
  use.setAttribute("href", new URL(`../icons.svg#${id}`, import.meta.url));
  svg.append(use);
  return svg;
}
