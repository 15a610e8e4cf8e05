/** The page of a call in the admin: connects its parts with each other, and does nothing else. */
import { LiveTranscript } from "./live-transcript";
import { attachPlayer } from "./recording-player";
import { StaffForms } from "./staff-forms";

const list = document.querySelector<HTMLOListElement>("#transcript");
const page = document.querySelector<HTMLElement>("#content-main");
if (list && page) {
  const transcript = new LiveTranscript(list);
  new StaffForms(page, () => transcript.look());
  attachPlayer(list);
}
