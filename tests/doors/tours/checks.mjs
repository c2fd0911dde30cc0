// What the tours in JavaScript share: named checks, each of which prints one line of JSON.
import { inspect, isDeepStrictEqual } from "node:util";

export const DOOR = process.env.DOOR_URL;
export const KEY = process.env.DOOR_KEY;
export const MODEL = "simulated";
// Ten words in a second, and words for a minute.
export const SLOW = "simulated:tokens=10,gap_ms=100";
export const ENDLESS = "simulated:tokens=600,gap_ms=100";

const SECONDS = 60;
const checks = [];

export function check(call, run) {
  checks.push([call, run]);
}

export function same(expected, got, what = "") {
  if (!isDeepStrictEqual(expected, got)) {
    throw new Error(`${what ? `${what}: ` : ""}expected ${inspect(expected)}, got ${inspect(got, { depth: 6 })}`);
  }
}

export function holds(condition, what) {
  if (!condition) throw new Error(what);
}

// The error that a promise must end with.
export async function rejected(promise, what) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    return error;
  }
  throw new Error(`${what} ended with ${inspect(value)}`);
}

// Run the checks in their order; those whose call contains an argument, if there are any.
export async function run() {
  const chosen = process.argv.slice(2);
  for (const [call, body] of checks) {
    if (chosen.length && !chosen.some((each) => call.includes(each))) continue;
    let difference = null;
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no end within ${SECONDS} s`)), SECONDS * 1000);
    });
    try {
      await Promise.race([body(), late]);
    } catch (error) {
      const line = /:(\d+):\d+\)?$/m.exec((error.stack ?? "").split("\n").find((each) => each.includes("tour_")) ?? "");
      const cause = error.cause ? `; ${error.cause.message ?? error.cause}` : "";
      difference = `${error.name === "Error" ? "" : `${error.name}: `}${error.message}${cause} (line ${line?.[1] ?? "?"})`;
    } finally {
      clearTimeout(timer);
    }
    console.log(JSON.stringify({ call, difference }));
  }
  process.exit(0);
}
