// What the pages do: draw diagrams in the colours of the page, and show a piece of each page that a search found.
// These are no modules, and nothing is fetched: a browser allows neither to a page that is a file.

const diagrams = [...document.querySelectorAll("pre.mermaid")];
const sources = diagrams.map((each) => each.textContent);
const found = document.getElementById("search-results");
const here = new URL(".", document.currentScript.src);
const darkness = matchMedia("(prefers-color-scheme: dark)");
// Characters on each side of a word that was found.
const AROUND = 90;

function load(name, then) {
  const script = document.createElement("script");
  script.src = new URL(name, here);
  script.onload = then;
  document.head.append(script);
}

async function draw() {
  const { theme } = document.body.dataset;
  const dark = theme === "dark" || (theme !== "light" && darkness.matches);
  mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "neutral", fontFamily: "inherit" });
  diagrams.forEach((each, place) => {
    each.removeAttribute("data-processed");
    each.textContent = sources[place];
  });
  await mermaid.run({ nodes: diagrams });
}

// What is around the first of these that the text has.
function piece(text, wanted) {
  const small = text.toLowerCase();
  const at = wanted.map((each) => small.indexOf(each)).find((place) => place >= 0) ?? 0;
  const start = at < AROUND ? 0 : text.indexOf(" ", at - AROUND) + 1;
  const end = text.lastIndexOf(" ", start + 2 * AROUND);
  return `${start ? "… " : ""}${text.slice(start, end)} …`;
}

function explain(item) {
  const link = item.querySelector("a");
  const asked = new URLSearchParams(location.search).get("q").toLowerCase().trim();
  const [, section] = link.textContent.split(" > ");
  const text = texts[link.getAttribute("href").split(".html")[0]] ?? "";
  const shown = document.createElement("p");
  shown.className = "context";
  shown.textContent = piece(text, section ? [section.toLowerCase()] : [asked, ...asked.split(/\s+/)]);
  item.append(shown);
}

if (diagrams.length) {
  load("mermaid.tiny.js", () => {
    draw();
    new MutationObserver(draw).observe(document.body, { attributeFilter: ["data-theme"] });
    darkness.addEventListener("change", draw);
  });
}

if (found) {
  load("texts.js", () => {
    const items = () => found.querySelectorAll("ul.search > li:not(:has(.context))");
    new MutationObserver(() => items().forEach(explain)).observe(found, { childList: true, subtree: true });
    items().forEach(explain);
  });
}
