// What can be done with a dead letter: check what is edited, save it, send it again.
import { useState } from "preact/hooks";
import { html } from "../html.js";
import { asProblem, call, post } from "../api.js";
import { changesOf } from "../letter.js";
import { useKeys } from "../keys.js";
import { notify } from "../notices.js";
import { Confirm } from "./dialog.js";

/** @typedef {{ letter: Api.DeadLetterResource, draft: import("../letter.js").Draft, saved: import("../letter.js").Draft, dirty: boolean,
 *    checked: Api.CheckedDeadLetter | null, setChecked: (checked: Api.CheckedDeadLetter | null) => void,
 *    stored: (letter: Api.DeadLetterResource) => void, discard: () => void }} Props */

/** @param {Props} props */
export function LetterActions(props) {
  const { letter, draft, saved, dirty, checked, setChecked, stored, discard } = props;
  const [busy, setBusy] = useState(false);
  const [asked, ask] = useState(false);
  const path = { letter_id: letter.id };
  const body = changesOf(draft, saved);
  const run = (/** @type {() => Promise<void>} */ act) => async () => {
    setBusy(true);
    try {
      await act();
    } catch (error) {
      const { title, detail } = asProblem(error);
      notify(`${title}. ${detail}`, "bad");
    } finally {
      setBusy(false);
    }
  };
  const check = run(async () => setChecked(await post("/v1/dead-letters/{letter_id}/check", { path, body })));
  const save = run(async () => {
    stored(await call("PUT", "/v1/dead-letters/{letter_id}", { path, body }));
    notify(`Dead letter ${letter.id} is saved. Its original is kept.`);
  });
  const obstacle = checked ? checked.obstacle : dirty ? null : letter.obstacle;
  useKeys([
    { key: "c", text: "Check what would be sent", run: () => void (busy || check()) },
    { key: "s", text: "Send it again", run: () => void (busy || obstacle || ask(true)) },
  ]);
  return html`${dirty && html`<button type="button" class="quiet" onClick=${discard}>Discard the changes</button>`}
    <button type="button" disabled=${busy} onClick=${check}>Check</button>
    <button type="button" disabled=${busy || !dirty} onClick=${save}>Save</button>
    <button type="button" class="primary" disabled=${busy || !!obstacle} title=${obstacle ? "It would be refused again" : undefined} onClick=${() => ask(true)}>${dirty ? "Save and send again" : "Send again"}</button>
    ${asked && html`<${Send} ...${props} close=${() => ask(false)} />`}`;
}

/** @param {Props & { close: () => void }} props */
function Send({ letter, draft, saved, dirty, stored, close }) {
  const path = { letter_id: letter.id };
  async function act() {
    if (dirty) stored(await call("PUT", "/v1/dead-letters/{letter_id}", { path, body: changesOf(draft, saved) }));
    const sent = await post("/v1/dead-letters/{letter_id}/replay", { path });
    stored(sent);
    notify(`Dead letter ${letter.id} was sent again; a worker reads it next.`);
  }
  return html`<${Confirm} title=${`Send dead letter ${letter.id} again`} yes=${dirty ? "Save and send" : "Send"} act=${act} close=${close}>
    <p>The gateway signs the record and writes it to <code>llm.requests</code>${letter.request_id && html`, as request <span class="id wrap">${letter.request_id}</span>`}.
      If a worker refuses it again, it becomes a new dead letter.</p>
    ${letter.replayed_at && html`<p><b>It was sent before.</b> A request that exists already does not change.</p>`}</${Confirm}>`;
}
