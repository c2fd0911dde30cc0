// Numbers and times as text. What the server sends is never recomputed into something that it did not say.

const WHOLE = new Intl.NumberFormat("en-US");
const NOTHING = "–";

/** @param {number | null | undefined} value */
export const number = (value) => (value === null || value === undefined ? NOTHING : WHOLE.format(value));

/**
 * A count with a limit: `500+` where there may be more.
 * @param {Api.Count | null | undefined} value
 */
export const count = (value) => (value ? `${number(value.count)}${value.more ? "+" : ""}` : NOTHING);

/**
 * A large number in few characters: 1,234 → 1,234; 12,345 → 12.3 k.
 * @param {number | null | undefined} value
 */
export function compact(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value < 10_000) return WHOLE.format(Math.round(value));
  const [divided, unit] = value < 1e6 ? [value / 1e3, "k"] : value < 1e9 ? [value / 1e6, "M"] : [value / 1e9, "G"];
  return `${divided < 100 ? divided.toFixed(1).replace(/\.0$/, "") : Math.round(divided)} ${unit}`;
}

/**
 * Seconds as text with its unit: 0.004 → 4 ms; 3.42 → 3.4 s; 95 → 1 min 35 s.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return NOTHING;
  const value = Math.max(0, seconds);
  if (value < 1) return `${Math.round(value * 1000)} ms`;
  if (value < 10) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 86_400) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return two(Math.floor(whole / 86_400), "d", Math.floor((whole % 86_400) / 3600), "h");
}

/**
 * Seconds in one unit, where there is little room: 95 → 1.6 min.
 * @param {number | null | undefined} seconds
 */
export function brief(seconds) {
  if (seconds === null || seconds === undefined || seconds < 60) return duration(seconds);
  const [value, unit] = seconds < 3600 ? [seconds / 60, "min"] : seconds < 86_400 ? [seconds / 3600, "h"] : [seconds / 86_400, "d"];
  return `${value < 10 ? value.toFixed(1).replace(/\.0$/, "") : Math.round(value)} ${unit}`;
}

/**
 * @param {number} large
 * @param {string} its
 * @param {number} small
 * @param {string} theirs
 */
const two = (large, its, small, theirs) => (small ? `${large} ${its} ${small} ${theirs}` : `${large} ${its}`);

/** @type {[number, string][]} */
const UNITS = [[86_400, "d"], [3600, "h"], [60, "min"]];

/**
 * How long ago, or how far ahead, a moment is, in one unit.
 * @param {string} moment
 * @param {number} now in milliseconds of the server
 */
export function relative(moment, now) {
  const seconds = Math.round((now - Date.parse(moment)) / 1000);
  // The page's clock moves once a second: what was only just written can lie ahead of it.
  if (seconds <= 0 && seconds > -3) return "now";
  const [large, unit] = UNITS.find(([large]) => Math.abs(seconds) >= large) ?? [1, "s"];
  const text = `${Math.floor(Math.abs(seconds) / large)} ${unit}`;
  return seconds > 0 ? `${text} ago` : `in ${text}`;
}

/** @param {string} moment */
export const utc = (moment) => new Date(moment).toISOString().replace("T", " ").replace("Z", " UTC");

/** The number of the minute in which a moment lies. @param {string | number} moment  or milliseconds */
export const minuteOf = (moment) => Math.floor(new Date(moment).getTime() / 60_000);

/** The time of day, with the date unless it is today's. @param {string} moment @param {number} now */
export function clock(moment, now) {
  const at = new Date(moment);
  const time = at.toLocaleTimeString("en-GB");
  return at.toDateString() === new Date(now).toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

/**
 * A moment as a field for local time has it; empty if the text does not name one.
 * @param {string} moment
 * @param {boolean} [seconds] whether the field has seconds
 */
export function local(moment, seconds = false) {
  const at = new Date(moment);
  return Number.isNaN(at.getTime()) ? "" : new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, seconds ? 19 : 16);
}

/** Seconds between two moments; undefined where one is missing. @param {string | null | undefined} from @param {string | null | undefined} to */
export const between = (from, to) => (from && to ? Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000) : undefined);

/** The last characters of an id: those of one moment begin alike. @param {string} id */
export const short = (id) => (/^[0-9a-f-]{32,36}$/.test(id) ? `…${id.slice(-8)}` : id);

/** @param {number | null | undefined} dollars */
export function money(dollars) {
  if (dollars === null || dollars === undefined) return NOTHING;
  if (dollars === 0) return "$0";
  return dollars < 0.01 ? `$${dollars.toPrecision(2)}` : `$${dollars.toFixed(dollars < 100 ? 2 : 0)}`;
}

/** Dollars where there is little room: no fractions of a cent. @param {number} dollars */
export const cents = (dollars) => (dollars > 0 && dollars < 0.01 ? "< $0.01" : money(dollars));

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}

/**
 * A number with its noun, or with other words that depend on it: `1 request`, `2 requests`, `500+ requests`.
 * @param {number | Api.Count} value
 * @param {string} one
 * @param {string} [many]
 */
export function plural(value, one, many = `${one}s`) {
  const counted = typeof value === "number" ? { count: value, more: false } : value;
  return `${count(counted)} ${counted.count === 1 && !counted.more ? one : many}`;
}

/** A text that ends like a sentence. @param {string} text */
export const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);
