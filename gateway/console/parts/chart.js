// A chart of values over time. Its numbers are also in a table, for those who cannot see it.
import uPlot from "uplot";
import { useEffect, useRef } from "preact/hooks";
import { html } from "../html.js";
import { dark } from "../theme.js";

/** @typedef {{ name: string, color: string, values: (number | null)[], fill?: boolean, dash?: number[] }} Line */

/**
 * @param {{ label: string, times: number[], lines: Line[], format: (value: number) => string, steps: number[], height?: number }} props
 *   `times`: seconds since 1970, ascending. `color`: the name of a custom property. `steps`: the distances that lines of the grid may have
 */
export function Chart({ label, times, lines, format, steps, height = 154 }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {uPlot | null} */ (null));
  const shape = lines.map((line) => line.name).join() + dark.value;
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const made = new uPlot(options(element, lines, format, steps, height), data(times, lines), element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, height]);
  useEffect(() => plot.current?.setData(data(times, lines)));
  return html`<figure class="chart">
    <figcaption class="legend">${lines.map((line) => html`<${Legend} key=${line.name} line=${line} format=${format} />`)}</figcaption>
    <div ref=${place} role="img" aria-label=${`${label}: ${lines.map((line) => said(line, format)).join("; ")}`}></div>
  </figure>`;
}

/** @param {{ line: Line, format: (value: number) => string }} props */
function Legend({ line, format }) {
  const last = line.values.at(-1);
  return html`<span><i style=${{ background: `var(--${line.color})` }}></i>${line.name}
    <b>${last === null || last === undefined ? "–" : format(last)}</b></span>`;
}

/** @param {Line} line @param {(value: number) => string} format */
function said(line, format) {
  const values = line.values.filter((value) => value !== null);
  return values.length ? `${line.name} at most ${format(Math.max(...values))}` : `${line.name}: nothing`;
}

/** @param {number[]} times @param {Line[]} lines @returns {uPlot.AlignedData} */
const data = (times, lines) => /** @type {uPlot.AlignedData} */ ([times, ...lines.map((line) => line.values)]);

/**
 * @param {HTMLElement} element
 * @param {Line[]} lines
 * @param {(value: number) => string} format
 * @param {number[]} steps
 * @param {number} height
 * @returns {uPlot.Options}
 */
function options(element, lines, format, steps, height) {
  const style = getComputedStyle(element);
  const color = (/** @type {string} */ name) => resolved(element, name);
  const font = `11px ${style.fontFamily}`;
  const grid = { stroke: color("line"), width: 1 };
  return {
    width: element.clientWidth || 300, height, padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: {
      x: { time: true, range: (_, low, high) => [low, high] },
      y: { range: (_, __, high) => [0, high ? high * 1.15 : (steps.find((each) => each >= 1) ?? 1)] },
    },
    axes: [
      { stroke: color("dim"), font, grid: { show: false }, ticks: { show: false }, size: 28, gap: 6, values: hours, space: 64 },
      { stroke: color("dim"), font, grid, ticks: { show: false }, size: 48, gap: 6, space: 34, incrs: steps, values: (_, splits) => splits.map(format) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        label: line.name, stroke: color(line.color), width: 1.5, dash: line.dash ?? [], points: { show: true, size: 5, width: 1, filter: alone },
        ...(line.fill ? { fill: color(`${line.color}-soft`) } : {}),
      })),
    ],
  };
}

/**
 * The points that no line reaches, since their neighbours are missing: only those are drawn.
 * @param {uPlot} plot @param {number} series @returns {number[]}
 */
function alone(plot, series) {
  const values = [...(plot.data[series] ?? [])];
  const missing = (/** @type {number} */ index) => (values[index] ?? null) === null;
  return values.flatMap((_, index) => (!missing(index) && missing(index - 1) && missing(index + 1) ? [index] : []));
}

/** @param {uPlot} _ @param {number[]} splits */
const hours = (_, splits) => splits.map((each) => new Date(each * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }));

/** The colour of a custom property as the canvas takes it, for this theme. @param {HTMLElement} element @param {string} name */
function resolved(element, name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
