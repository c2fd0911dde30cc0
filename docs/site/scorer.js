// How pages that were found are ordered: Sphinx's points, more for a title that has the whole query, and more for pages
// that say what to do or look something up.
const weights = { howto: 2, tutorial: 2, reference: 1.2, project: 0.7, decisions: 0.5, reliability: 0.5 };

// Sphinx looks for this name. Its own points are those of its default.
var Scorer = {
  score: ([page, title, anchor, description, points, file, kind]) =>
    (kind === "title" ? points + 10 : points) * (weights[page.split("/")[0]] ?? 1),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
