// Pauses in words.

/** The pause of a model by itself, or with null that of all work. @param {Api.PauseResource[] | undefined} pauses @param {string | null} model */
export const pauseOf = (pauses, model) => pauses?.find((each) => each.model === model);

/**
 * What a pause stops: `all work` or `model llama3`; with a verb as the beginning of a sentence.
 * @param {string | null} model
 * @param {string} [verb]
 */
export function work(model, verb) {
  const name = model === null ? "all work" : `model ${model}`;
  return verb ? `${(name[0] ?? "").toUpperCase()}${name.slice(1)} ${verb}` : name;
}

/** Why no worker takes the requests of a model now; empty: workers may. @param {Api.QueueState} queue @param {string | null} model */
export function barOf({ pauses, held }, model) {
  if (pauseOf(pauses, null) || (model !== null && pauseOf(pauses, model))) return "paused";
  return held.some((each) => each.model === model) ? "held back" : "";
}
