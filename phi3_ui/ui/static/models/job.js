/** Tells the model button and the model menu how far the job is whose progress the component shows. */
import { update } from "./store.js";

export default function followJob({ element, watch }) {
  const read = () => {
    const summary = element.querySelector(".phi3-job")?.dataset.summary;
    update({ job: summary ? { summary } : null });
    element.querySelector(".phi3-error, .phi3-note")?.scrollIntoView({ block: "nearest" }); // below the fold of a low window
  };
  watch("value", read);
  read();
}
