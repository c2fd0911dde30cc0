// One dead letter: why it was refused, its bytes and headers, edited, checked and sent again.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { short, size } from "../format.js";
import { draftOf, drafts, placeOf, same } from "../letter.js";
import { link, linkIfAny } from "../router.js";
import { Copy } from "../parts/copy.js";
import { LetterActions } from "../parts/letteractions.js";
import { LetterHeaders } from "../parts/letterheaders.js";
import { LetterValue } from "../parts/lettervalue.js";
import { Page } from "../parts/page.js";
import { Facts, Failure, Missing, Panel } from "../parts/panel.js";
import { Refusal } from "../parts/refusal.js";
import { State } from "../parts/sign.js";
import { Ago, Clock } from "../parts/time.js";

const MAX_UNDO = 200;

/** @param {{ id: string }} props */
export default function LetterPage({ id }) {
  const loaded = useLoaded((abort) => get("/v1/dead-letters/{letter_id}", { path: { letter_id: id }, abort }), [id]);
  const [known, setKnown] = useState(/** @type {Api.DeadLetterResource | undefined} */ (undefined));
  useEffect(() => setKnown(loaded.data), [loaded.data]);
  const letter = known?.id === Number(id) ? known : undefined;
  if (loaded.problem && !letter) {
    if (loaded.problem.status === 404) return html`<${Missing} title="Dead letter" what="dead letter" list="/dead-letters"><p class="dim">Dead letters are kept as long as requests, and then deleted.</p></${Missing}>`;
    return html`<${Page} title="Dead letter"><${Failure} problem=${loaded.problem} again=${loaded.reload} /></${Page}>`;
  }
  if (!letter) return html`<${Page} title="Dead letter"><div class="loading" aria-busy="true"></div></${Page}>`;
  return html`<${Editor} key=${letter.id} letter=${letter} setLetter=${setKnown} />`;
}

/** @param {{ letter: Api.DeadLetterResource, setLetter: (letter: Api.DeadLetterResource) => void }} props */
function Editor({ letter, setLetter }) {
  const id = String(letter.id);
  const saved = draftOf(letter);
  const came = letter.original ? draftOf(letter.original) : saved;
  const [steps, setSteps] = useState(() => [drafts.get(id) ?? saved]);
  const [checked, setChecked] = useState(/** @type {Api.CheckedDeadLetter | null} */ (null));
  const draft = steps.at(-1) ?? saved;
  const dirty = !same(draft, saved);
  useEffect(() => {
    if (dirty) drafts.set(id, draft);
    else drafts.delete(id);
  }, [draft, dirty]);
  const change = (/** @type {import("../letter.js").Draft} */ next) => {
    setSteps((before) => [...before.slice(-MAX_UNDO), next]);
    setChecked(null);
  };
  const undo = steps.length > 1 ? () => {
    setSteps((before) => before.slice(0, -1));
    setChecked(null);
  } : undefined;
  const discard = () => {
    setSteps([saved]);
    setChecked(null);
  };
  const stored = (/** @type {Api.DeadLetterResource} */ next) => {
    setLetter(next);
    setSteps([draftOf(next)]);
    setChecked(null);
  };
  const title = html`<span>Dead letter</span><span class="inline"><span class="id">${letter.id}</span><${Copy} text=${id} label="its id" /></span><${State} of="failed" word=${letter.reason} />`;
  return html`<${Page} title=${title} note=${html`<${Sent} letter=${letter} />`} tools=${html`<${LetterActions} letter=${letter} draft=${draft} saved=${saved} dirty=${dirty} checked=${checked} setChecked=${setChecked} stored=${stored} discard=${discard} />`}>
    <div class="columns wide-first">
      <div class="stack">
        <${Refusal} letter=${letter} draft=${draft} dirty=${dirty} checked=${checked} change=${change} />
        <${LetterValue} letter=${letter} came=${came} draft=${draft} change=${change} undo=${undo} />
        <${LetterHeaders} draft=${draft} change=${change} />
      </div>
      <div class="stack"><${Known} letter=${letter} /></div>
    </div></${Page}>`;
}

/** @param {{ letter: Api.DeadLetterResource }} props */
function Sent({ letter }) {
  if (!letter.replayed_at) return html`never sent again`;
  return html`sent again <${Ago} at=${letter.replayed_at} /> as <a href=${link(`/requests/${letter.replayed_as}`)}>its request</a>`;
}

/** @param {{ letter: Api.DeadLetterResource }} props */
function Known({ letter }) {
  const at = linkIfAny(`/topics/${letter.topic}/${letter.partition}`, { offset: String(letter.offset), record: String(letter.offset) });
  const place = placeOf(letter);
  const request = letter.replayed_as ?? letter.request_id;
  return html`<${Panel} title="Facts"><${Facts} rows=${[
    ["Record", html`<span class="inline">${at ? html`<a class="mono wrap" href=${at}>${place}</a>` : html`<code class="wrap">${place}</code>`}<${Copy} text=${place} label="its place" /></span>`],
    ["Written", html`<${Clock} at=${new Date(letter.timestamp_ms).toISOString()} />`],
    ["Set aside", html`<${Ago} at=${letter.created_at} />`],
    ["Size", letter.value_bytes === null ? "no value" : size(letter.value_bytes ?? 0)],
    ["Edited", letter.edited_at ? html`<${Ago} at=${letter.edited_at} />` : "never"],
    ["Sent again", letter.replayed_at ? html`<${Ago} at=${letter.replayed_at} />` : "never"],
    ["Request", request && html`<span class="inline"><a class="id" href=${link(`/requests/${request}`)} title=${request}>${short(request)}</a><${Copy} text=${request} label="the request's id" /></span>`],
  ]} /></${Panel}>`;
}
