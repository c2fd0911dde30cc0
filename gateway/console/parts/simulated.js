// That no model is connected: what looks like an answer is made up.
import { html } from "../html.js";
import { get, useLoaded } from "../api.js";
import { useEvery } from "../live.js";
import { isAgent } from "../models.js";
import { link } from "../router.js";

const SECONDS = 60;

/** One line on each page, where all models are simulated. */
export function Simulated() {
  const models = useLoaded((abort) => get("/openai/v1/models", { abort }), []);
  useEvery(SECONDS, models.reload);
  const found = (models.data?.data ?? []).filter((/** @type {any} */ each) => !isAgent(each));
  if (!found.length || found.some((/** @type {any} */ each) => each.owned_by !== "simulated")) return null;
  return html`<p class="simulated">Answers are simulated: no model is connected. <a href=${link("/models")}>Models</a></p>`;
}
