// The playground: write messages, send them, watch the answer as text and as events, and take the call along.
import { useEffect, useMemo, useState } from "preact/hooks";
import { html } from "../html.js";
import { asProblem, get, post, useLoaded } from "../api.js";
import { useKeys } from "../keys.js";
import { go, link, query } from "../router.js";
import { Run } from "../run.js";
import { bodyOf, keepDraft, keptDraft, newKey } from "../sending.js";
import { Page } from "../parts/page.js";
import { PlayForm } from "../parts/playform.js";
import { PlayOutput } from "../parts/playoutput.js";

export default function Playground() {
  const asked = query.value.get("model");
  const [draft, setDraft] = useState(() => ({ ...keptDraft(), ...(asked && { model: asked }) }));
  const models = useLoaded((abort) => get("/openai/v1/models", { abort }), []);
  const [state, set] = useState(/** @type {{ busy: boolean, problem?: any, key: string, of: string }} */ ({ busy: false, key: newKey(), of: "" }));
  const id = query.value.get("request") ?? "";
  const run = useMemo(() => (id ? (Run.kept(id) ?? Run.sent(id, {}, 0)) : null), [id]);
  useEffect(() => {
    run?.open();
    return () => run?.close();
  }, [run]);
  const change = (/** @type {import("../sending.js").Draft} */ next) => {
    setDraft(next);
    keepDraft(next);
  };
  async function send() {
    const body = bodyOf(draft);
    if (!body["messages"].length || state.busy) return;
    // The same call again has the same key, until it was accepted: if it was accepted after all, it counts once.
    const of = JSON.stringify(body);
    const key = of === state.of ? state.key : newKey();
    set({ busy: true, key, of });
    const sentAt = Date.now();
    try {
      const accepted = await post("/v1/messages", { body, headers: { Prefer: "respond-async", "Idempotency-Key": key } });
      Run.sent(accepted.id, body, sentAt).save();
      set({ busy: false, key: newKey(), of: "" });
      go(link("/playground", { request: accepted.id }), { replace: true });
    } catch (error) {
      set({ busy: false, key, of, problem: asProblem(error) });
    }
  }
  useKeys([{ key: "i", text: "Write a message", run: () => document.querySelector("textarea")?.focus() }]);
  return html`<${Page} title="Playground" note="what is sent here is a request like any other">
    <div class="columns play">
      <${PlayForm} draft=${draft} change=${change} models=${models.data?.data} asking=${!models.data && !models.problem} busy=${state.busy} problem=${state.problem ?? models.problem} send=${send} />
      <${PlayOutput} run=${run} draft=${draft} key=${id} />
    </div>
  </${Page}>`;
}
