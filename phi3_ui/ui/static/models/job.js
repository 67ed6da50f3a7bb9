/** Tells the model button and the model menu the progress of the job that the component shows. */
import { update } from "./store.js";

export default function followJob({ element, watch }) {
  const read = () => {
    const summary = element.querySelector(".phi3-job")?.dataset.summary;
    update({ job: summary ? { summary } : null });
    element.querySelector(".phi3-error, .phi3-note")?.scrollIntoView({ block: "nearest" }); // it may be below the fold
  };
  watch("value", read);
  read();
}
