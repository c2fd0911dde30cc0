// Moving through the rows of a list by single keys.
import { useEffect, useState } from "preact/hooks";
import { useKeys } from "./keys.js";
import { go, link } from "./router.js";

/**
 * The place of the row that the keys have reached, -1 for none. It is forgotten when `key`, which names the list, changes.
 *
 * `path`: below it is the page of each row; `more`: further keys of the list, given the row that was reached.
 * @template {{ id: string | number }} T
 * @param {T[]} rows
 * @param {string} path
 * @param {string} key
 * @param {(at: T | undefined) => import("./keys.js").Binding[]} more
 */
export function useRows(rows, path, key, more = () => []) {
  const [here, setHere] = useState(-1);
  useEffect(() => setHere(-1), [key]);
  const at = rows[here];
  const move = (/** @type {number} */ step) => {
    const next = Math.max(0, Math.min(rows.length - 1, here + step));
    setHere(next);
    document.getElementById(`row-${rows[next]?.id}`)?.scrollIntoView({ block: "nearest" });
  };
  useKeys([
    { key: "j", text: "Next row", run: () => move(1) },
    { key: "k", text: "Previous row", run: () => move(-1) },
    { key: "Enter", text: "Open the row", run: () => at && go(link(`${path}/${at.id}`)) },
    ...more(at),
  ]);
  return here;
}
