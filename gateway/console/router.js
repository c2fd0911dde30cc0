// The address is the state: which page, and every filter of it.
import { computed, signal } from "@preact/signals";
import { PAGES } from "./pages.js";
import { may } from "./session.js";

const ROOT = "/console";

const address = signal(new URL(location.href));

/** The query of the page, as it is in the address. */
export const query = computed(() => address.value.searchParams);

/** The path below /console. */
export const path = computed(() => address.value.pathname.slice(ROOT.length).replace(/\/+$/, "") || "/");

/** The page that the address names, and the parts of its path; null: there is none. */
export const route = computed(() => {
  for (const page of PAGES) {
    const parts = match(page.path, path.value);
    if (parts) return { page, parts };
  }
  return null;
});

/**
 * The address of a page.
 * @param {string} path below /console
 * @param {Record<string, string | undefined>} [query] what is empty is left out
 */
export function link(path, query = {}) {
  const found = Object.entries(query).filter((each) => each[1]);
  const text = new URLSearchParams(/** @type {[string, string][]} */ (found)).toString();
  return ROOT + (path === "/" ? "" : path) + (text && `?${text}`);
}

/**
 * The address of a page if the console has it and this caller may see it; otherwise undefined.
 * @param {string} path
 * @param {Record<string, string | undefined>} [query]
 */
export function linkIfAny(path, query) {
  const page = PAGES.find((each) => match(each.path, path));
  return page && may(page.scope) ? link(path, query) : undefined;
}

/**
 * Go to an address of the console. `replace`: the back button does not return to the present one.
 * @param {string} href
 * @param {{ replace?: boolean }} [options]
 */
export function go(href, { replace = false } = {}) {
  const before = path.value;
  history[replace ? "replaceState" : "pushState"](null, "", href);
  address.value = new URL(location.href);
  if (path.value !== before) arrive();
}

/**
 * Change the query of this page; an empty value removes its name.
 * @param {Record<string, string | undefined>} changes
 */
export function refine(changes) {
  go(link(path.value, { ...Object.fromEntries(query.value), ...changes }), { replace: true });
}

export function start() {
  addEventListener("popstate", () => {
    address.value = new URL(location.href);
  });
  document.addEventListener("click", (event) => {
    const anchor = event.target instanceof Element ? event.target.closest("a") : null;
    const plain = !(event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!anchor || !plain || anchor.target || anchor.hasAttribute("download")) return;
    const to = new URL(anchor.href);
    if (to.origin !== location.origin || !(to.pathname === ROOT || to.pathname.startsWith(`${ROOT}/`))) return;
    if (to.hash && to.pathname === location.pathname) return;
    event.preventDefault();
    go(to.href);
  });
}

/** A new page is read from its top, also by a screen reader. */
function arrive() {
  scrollTo(0, 0);
  requestAnimationFrame(() => document.getElementById("page")?.focus({ preventScroll: true }));
}

/**
 * @param {string} pattern
 * @param {string} path
 * @returns {Record<string, string> | null}
 */
function match(pattern, path) {
  const [wanted, given] = [pattern.split("/"), path.split("/")];
  if (wanted.length !== given.length) return null;
  /** @type {Record<string, string>} */
  const parts = {};
  for (const [index, each] of wanted.entries()) {
    const text = given[index] ?? "";
    if (/^\{\w+\}$/.test(each)) parts[each.slice(1, -1)] = decode(text);
    else if (each !== text) return null;
  }
  return parts;
}

/** @param {string} text */
function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
