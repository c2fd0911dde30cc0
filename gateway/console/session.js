// The session: signed in by a cookie that no script can read, or everyone on a gateway in open mode.
import { computed, signal } from "@preact/signals";
import { asProblem, call, get, refused } from "./api.js";

const LOOK_SECONDS = 60;

/** @typedef {"asking" | "signed_in" | "signed_out" | "unreachable"} State */

/** @type {import("@preact/signals").Signal<State>} */
export const state = signal("asking");

/** What GET /v1/session answered last. @type {import("@preact/signals").Signal<Api.SessionResource | null>} */
export const session = signal(null);

/** What the caller may do. */
export const scopes = computed(() => new Set(/** @type {string[]} */ (session.value?.caller?.scopes ?? [])));

/**
 * Whether the caller has a scope.
 * @param {string} scope
 */
export const may = (scope) => scopes.value.has(scope);

/** How the caller is called. */
export const name = computed(() => {
  const caller = session.value?.caller;
  return caller?.username ?? caller?.key_name ?? caller?.owner ?? "";
});

/** Ask the gateway who is signed in. */
export async function ask() {
  try {
    session.value = await get("/v1/session");
    state.value = session.value?.caller ? "signed_in" : "signed_out";
  } catch (error) {
    const { status } = asProblem(error);
    if (status === 401 || status === 403) state.value = "signed_out";
    else if (state.value === "asking") state.value = "unreachable";
  }
}

/**
 * Sign in. Raises `Problem`.
 * @param {{ username: string, password: string } | { api_key: string }} credentials
 */
export async function signIn(credentials) {
  await call("POST", "/v1/session", "api_key" in credentials ? { body: credentials } : { form: credentials });
  await ask();
}

export async function signOut() {
  await call("DELETE", "/v1/session");
  await ask();
}

export function start() {
  refused.subscribe((count) => {
    if (count && state.value === "signed_in") void ask();
  });
  // While its user acts, a session is renewed once half of it is over.
  let looked = 0;
  for (const act of ["keydown", "pointerdown"]) {
    addEventListener(act, () => {
      const due = session.value?.session && Date.now() >= Date.parse(session.value.session.renew_at);
      if (!due || Date.now() - looked < LOOK_SECONDS * 1000) return;
      looked = Date.now();
      void ask();
    }, { passive: true });
  }
  void ask();
}
