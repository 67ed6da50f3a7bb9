/** Keeps the end of the chat in view while text arrives, until the user scrolls up; offers a button to jump back. */
import { create } from "./dom.js";
import drawIcon from "./icons.js";

const NEAR_END = 80; // pixels

export default function followEnd(log, label, onJump) {
  const button = create("button", "phi3-jump", { type: "button" }, label);
  button.prepend(drawIcon("down"));
  button.hidden = true;
  let isFollowing = true;
  let lastTop = 0;

  const isAtEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_END;
  const keep = () => {
    if (isFollowing) log.scrollTop = log.scrollHeight;
    button.hidden = isFollowing || isAtEnd();
  };
  const jump = () => {
    isFollowing = true;
    keep();
    requestAnimationFrame(keep); // messages that were not laid out before now have their height
  };

  log.addEventListener("scroll", () => {
    // Content that grows below the view also moves the end away, but does not scroll up.
    if (isAtEnd()) isFollowing = true;
    else if (log.scrollTop < lastTop) isFollowing = false;
    lastTop = log.scrollTop;
    button.hidden = isFollowing || isAtEnd();
  });
  button.addEventListener("click", () => {
    jump();
    onJump();
  });
  const resized = globalThis.ResizeObserver && new ResizeObserver(keep);
  /** Keeps the end in view also when this part of the log grows. */
  const observe = (part) => resized?.observe(part);
  observe(log);
  return { button, keep, jump, observe };
}
