// One conversation as a chat: each turn with its request, what is open as it comes, and a place to say more.
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { html } from "../html.js";
import { call } from "../api.js";
import { number, plural, short } from "../format.js";
import { useKeys } from "../keys.js";
import { useEvery } from "../live.js";
import { notify } from "../notices.js";
import { go, link } from "../router.js";
import { may } from "../session.js";
import { Talk, turnsOf } from "../talk.js";
import { Composer } from "../parts/composer.js";
import { Copy } from "../parts/copy.js";
import { Confirm } from "../parts/dialog.js";
import { Page } from "../parts/page.js";
import { Empty, Facts, Failure, Missing, Panel } from "../parts/panel.js";
import { Ago } from "../parts/time.js";
import { Turn } from "../parts/turn.js";

const STATES = { open: "live", lost: "the stream broke off; it connects again", closed: "", deleted: "it was deleted" };

/** @param {{ id: string }} props */
export default function Conversation({ id }) {
  const talk = useMemo(() => new Talk(id), [id]);
  const [asked, ask] = useState(false);
  const field = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  useEffect(() => {
    void talk.start();
    return () => talk.stop();
  }, [talk]);
  const about = talk.about.value;
  // A turn that another gateway accepted is in no event until it runs.
  useEvery(10, () => about && talk.state.peek() !== "deleted" && void talk.read());
  useKeys([{ key: "i", text: "Write a message", run: () => field.current?.focus() }]);
  const gone = talk.state.value === "deleted";
  const problem = talk.problem.value;
  const turns = turnsOf(talk.messages.value, talk.requests.value, talk.answers.value);
  useAtEnd(turns.length);
  if (problem && !about) {
    if (problem.status === 404) return html`<${Missing} title="Conversation" what="conversation" list="/conversations"><p class="dim">One that was deleted is gone.</p></${Missing}>`;
    return html`<${Page} title="Conversation"><${Failure} problem=${problem} again=${() => void talk.start()} /></${Page}>`;
  }
  const model = talk.requests.value.find((each) => each.model)?.model ?? "";
  const title = html`<span>Conversation</span><span class="inline"><span class="id" title=${id}>${short(id)}</span><${Copy} text=${id} label="the id" /></span>`;
  const tools = about && may("write") && !gone && html`<button type="button" class="danger" onClick=${() => ask(true)}>Delete</button>`;
  return html`<${Page} title=${title} note=${about && STATES[talk.state.value]} tools=${tools}>
    ${!about && html`<div class="loading" aria-busy="true"></div>`}
    ${about && html`<div class="columns wide-first">
      <section class="panel chat" aria-label="Turns">
        ${!turns.length && html`<${Empty} title="Nothing has been said yet."><p class="dim">The first message begins it.</p></${Empty}>`}
        <ol class="turns">${turns.map((turn) => html`<${Turn} key=${turn.id ?? turn.messages[0]?.id} turn=${turn} live=${talk.state.value === "open"} />`)}</ol>
        ${gone && html`<p class="under dim">It was deleted, with its messages. What is above is what this page had.</p>`}
        ${may("write") && !gone && html`<${Composer} conversation=${id} model=${model} field=${field} sent=${() => void talk.read()} />`}
      </section>
      <div class="stack"><${Panel} title="Facts"><${Facts} rows=${[
        ["Created", html`<${Ago} at=${about.created_at} />`],
        ["Turns", talk.more.value ? `the newest ${number(talk.requests.value.length)} are here` : number(talk.requests.value.length)],
        ["Open", about.open_requests.length ? plural(about.open_requests.length, "request") : "none"],
        ["Requests", html`<a href=${link("/requests", { conversation_id: id })}>As a list</a>`],
        ["Branch of", about.branch_of && html`<a class="id" href=${link(`/conversations/${about.branch_of}`)}>${short(about.branch_of)}</a>`],
        ...Object.entries(about.metadata),
      ]} /></${Panel}></div>
    </div>`}
    ${asked && html`<${Delete} id=${id} open=${about.open_requests.length} turns=${talk.more.value ? undefined : turns.length} close=${() => ask(false)} />`}
  </${Page}>`;
}

/** A chat is read from its end, and stays there while it grows, unless one has scrolled away. @param {number} turns */
function useAtEnd(turns) {
  const before = useRef(0);
  useLayoutEffect(() => {
    const page = document.documentElement;
    const atEnd = page.scrollHeight - page.scrollTop - page.clientHeight < 400;
    if (turns && (atEnd || !before.current)) scrollTo(0, page.scrollHeight);
    before.current = turns;
  }, [turns]);
}

/** @param {{ id: string, open: number, turns: number | undefined, close: () => void }} props */
function Delete({ id, open, turns, close }) {
  async function act() {
    await call("DELETE", "/v1/conversations/{conversation_id}", { path: { conversation_id: id } });
    notify(`Conversation ${short(id)} was deleted.`);
    go(link("/conversations"));
  }
  return html`<${Confirm} title="Delete this conversation" yes="Delete it" danger act=${act} close=${close}>
    <p>${turns === undefined ? "All its turns" : `Its ${plural(turns, "turn")}`} and their texts are deleted for good.${open ? ` ${plural(open, "open request")} ${open === 1 ? "is" : "are"} cancelled.` : ""}</p>
    <p class="dim">Branches of it go on, without what they took from it. A copy keeps its own.</p></${Confirm}>`;
}
