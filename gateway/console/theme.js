// Light, dark, or as the system has it; kept in this browser.
import { effect, signal } from "@preact/signals";

const NAME = "orchestra.theme";
const CHOICES = /** @type {const} */ (["auto", "light", "dark"]);

/** @type {import("@preact/signals").Signal<typeof CHOICES[number]>} */
export const theme = signal(CHOICES.find((each) => each === kept(NAME)) ?? "auto");

export const nextTheme = () => {
  theme.value = CHOICES[(CHOICES.indexOf(theme.value) + 1) % CHOICES.length] ?? "auto";
};

/** Whether the page is dark now: for what draws itself. */
export const dark = signal(false);

export function start() {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const look = () => {
    dark.value = theme.value === "dark" || (theme.value === "auto" && system.matches);
  };
  system.addEventListener("change", look);
  effect(() => {
    document.documentElement.dataset["theme"] = theme.value;
    keep(NAME, theme.value);
    look();
  });
}

/**
 * What this browser keeps under a name; null where it keeps nothing.
 * @param {string} name
 */
export function kept(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string} value */
export function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // A browser that keeps nothing forgets it with the tab.
  }
}
