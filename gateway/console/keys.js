// Single keys. None fires in a field, with a modifier, or after they were switched off (WCAG 2.1.4).
import { useLayoutEffect } from "preact/hooks";
import { signal } from "@preact/signals";
import { PAGES } from "./pages.js";
import { go, link } from "./router.js";
import { may } from "./session.js";
import { keep, kept, nextTheme } from "./theme.js";
import { frozen } from "./live.js";

const NAME = "orchestra.keys";
const SEQUENCE_MS = 1500;

/** @typedef {{ key: string, text: string, run: () => void }} Binding */

/** Whether single keys do something. */
export const enabled = signal(kept(NAME) !== "off");

/** Whether the help is open. */
export const help = signal(false);

/** Those of the page that is open, for the help. @type {import("@preact/signals").Signal<Binding[]>} */
export const bindings = signal([]);

/** @param {boolean} on */
export function enable(on) {
  enabled.value = on;
  keep(NAME, on ? "on" : "off");
}

/** @type {Binding[]} */
export const EVERYWHERE = [
  { key: "?", text: "Show the keys", run: () => (help.value = true) },
  { key: "t", text: "Change the theme", run: nextTheme },
  { key: ".", text: "Freeze or unfreeze numbers and lists", run: () => (frozen.value = !frozen.value) },
];

/**
 * Keys of a page or of a part, while it is shown.
 * @param {Binding[]} own
 */
export function useKeys(own) {
  // Before the next key: an effect would run after the page was painted, which a quick typist does not wait for.
  useLayoutEffect(() => {
    bindings.value = [...bindings.peek(), ...own];
    return () => {
      bindings.value = bindings.peek().filter((each) => !own.includes(each));
    };
  });
}

let started = 0;

export function start() {
  addEventListener("keydown", (event) => {
    const typing = event.target instanceof Element && event.target.closest("input, textarea, select, [contenteditable]");
    const checkbox = typing instanceof HTMLInputElement && typing.type === "checkbox";
    const off = !enabled.value || (typing && !checkbox) || document.querySelector("dialog[open]");
    if (off || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (takes(event.target, event.key)) return;
    const going = Date.now() - started < SEQUENCE_MS;
    started = !going && event.key === "g" ? Date.now() : 0;
    const run = going ? openPage(event.key) : action(event.key);
    if (!run) return;
    event.preventDefault();
    run();
  });
}

/** @param {string} key */
function openPage(key) {
  const page = PAGES.find((each) => each.key === key && may(each.scope));
  return page && (() => go(link(page.path)));
}

/** @param {string} key */
const action = (key) => [...bindings.value].reverse().concat(EVERYWHERE).find((each) => each.key === key)?.run;

/**
 * Enter and space belong to the button or link that has the focus.
 * @param {EventTarget | null} target
 * @param {string} key
 */
function takes(target, key) {
  return (key === "Enter" || key === " ") && target instanceof Element && !!target.closest("a, button, summary, input");
}
