// Calls that create access need a session that is recent: if it is not, ask for the password, and repeat the call.
import { signal } from "@preact/signals";
import { asProblem } from "./api.js";

/** The call that waits for the password. @type {import("@preact/signals").Signal<{ done: () => void, back: (why: unknown) => void } | null>} */
export const waiting = signal(null);

/**
 * Make a call; once more after the caller has signed in again, if that is what it needs. Raises `Problem`.
 * @template T
 * @param {() => Promise<T>} make
 * @returns {Promise<T>}
 */
export async function recently(make) {
  try {
    return await make();
  } catch (error) {
    if (asProblem(error).code !== "sign_in_again") throw error;
    await new Promise((done, back) => {
      waiting.value = { done: () => done(undefined), back };
    });
    return await make();
  }
}
