// What differs between two values, in characters; a byte that is not UTF-8 is a character of its own: \xe9.
import { hex, sequence } from "./bytes.js";

/** Changes beyond which the differing part is shown as one. */
const MAX_CHANGES = 400;
/** Characters shown around a change. */
const CONTEXT = 160;

/** @typedef {{ kind: "same" | "gone" | "new" | "left_out", text: string }} Piece */

/** @param {Uint8Array} bytes */
export function characters(bytes) {
  const found = [];
  for (let at = 0; at < bytes.length; ) {
    const length = sequence(bytes, at);
    found.push(length ? new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes.subarray(at, at + length)) : `\\x${hex(bytes[at] ?? 0)}`);
    at += length || 1;
  }
  return found;
}

/** @param {Uint8Array} before @param {Uint8Array} after @returns {Piece[]} */
export function difference(before, after) {
  const [a, b] = [characters(before), characters(after)];
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a[a.length - 1 - tail] === b[b.length - 1 - tail]) tail += 1;
  const [left, right] = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  /** @type {Piece[]} */
  const pieces = [{ kind: "same", text: a.slice(0, head).join("") }, ...changes(left, right), { kind: "same", text: a.slice(a.length - tail).join("") }];
  return cut(joined(pieces));
}

/** Myers' shortest edit. @param {string[]} a @param {string[]} b @returns {Piece[]} */
function changes(a, b) {
  const whole = /** @type {Piece[]} */ ([{ kind: "gone", text: a.join("") }, { kind: "new", text: b.join("") }]);
  /** @type {Map<number, number>[]} */
  const rounds = [];
  let furthest = new Map([[1, 0]]);
  for (let depth = 0; depth <= Math.min(MAX_CHANGES, a.length + b.length); depth += 1) {
    rounds.push(new Map(furthest));
    for (let line = -depth; line <= depth; line += 2) {
      const down = line === -depth || (line !== depth && (furthest.get(line - 1) ?? 0) < (furthest.get(line + 1) ?? 0));
      let x = down ? (furthest.get(line + 1) ?? 0) : (furthest.get(line - 1) ?? 0) + 1;
      while (x < a.length && x - line < b.length && a[x] === b[x - line]) x += 1;
      furthest.set(line, x);
      if (x >= a.length && x - line >= b.length) return traced(a, b, rounds);
    }
  }
  return whole;
}

/** @param {string[]} a @param {string[]} b @param {Map<number, number>[]} rounds @returns {Piece[]} */
function traced(a, b, rounds) {
  /** @type {Piece[]} */
  const found = [];
  let [x, y] = [a.length, b.length];
  for (let depth = rounds.length - 1; depth >= 0; depth -= 1) {
    const seen = rounds[depth] ?? new Map();
    const line = x - y;
    const down = line === -depth || (line !== depth && (seen.get(line - 1) ?? 0) < (seen.get(line + 1) ?? 0));
    const before = down ? line + 1 : line - 1;
    const fromX = seen.get(before) ?? 0;
    while (depth ? x > fromX && y > fromX - before : x > 0) {
      x -= 1;
      y -= 1;
      found.push({ kind: "same", text: a[x] ?? "" });
    }
    if (!depth) break;
    if (down) found.push({ kind: "new", text: b[--y] ?? "" });
    else found.push({ kind: "gone", text: a[--x] ?? "" });
  }
  return found.reverse();
}

/** @param {Piece[]} pieces @returns {Piece[]} */
function joined(pieces) {
  /** @type {Piece[]} */
  const made = [];
  for (const piece of pieces) {
    const last = made.at(-1);
    if (last?.kind === piece.kind) last.text += piece.text;
    else if (piece.text) made.push({ ...piece });
  }
  return made;
}

/** Leave out what is far from a change. @param {Piece[]} pieces @returns {Piece[]} */
function cut(pieces) {
  return pieces.flatMap((piece, index) => {
    const { text } = piece;
    if (piece.kind !== "same" || text.length <= 3 * CONTEXT) return [piece];
    const head = index === 0 ? "" : text.slice(0, CONTEXT);
    const tail = index === pieces.length - 1 ? "" : text.slice(-CONTEXT);
    const left = /** @type {Piece} */ ({ kind: "left_out", text: String(text.length - head.length - tail.length) });
    return [{ kind: "same", text: head }, left, { kind: "same", text: tail }];
  });
}
