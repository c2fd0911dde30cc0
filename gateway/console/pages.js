// The pages of the console: the one list that the rail, the router and the keys read.
//
// To add a page, write pages/NAME.js whose default export is its component, and add a row here. Fields:
// - path: below /console; `{name}` becomes a property of the component
// - title: in the rail and in the window's title
// - group: its heading in the rail; none: it is not in the rail (`under` names the path whose entry is marked)
// - key: the letter that opens it after `g`
// - scope: what a caller needs to see it, as in GET /v1/session
// - load: imports its module when it is first opened
// - count: optional; the number beside its name, from a frame of GET /v1/live

/**
 * @typedef {object} Page
 * @property {string} path
 * @property {string} title
 * @property {string} [group]
 * @property {string} [under]
 * @property {string} [key]
 * @property {"read" | "write" | "operate" | "admin"} scope
 * @property {() => Promise<{ default: import("preact").ComponentType<any> }>} load
 * @property {(frame: Api.LiveFrame) => Api.Count | undefined} [count]
 */

/** @type {Page[]} */
export const PAGES = [
  { path: "/", title: "Overview", group: "Now", key: "o", scope: "read", load: () => import("./pages/overview.js") },
  {
    path: "/requests", title: "Requests", group: "Now", key: "r", scope: "read",
    load: () => import("./pages/requests.js"),
  },
  {
    path: "/requests/{id}", title: "Request", under: "/requests", scope: "read",
    load: () => import("./pages/request.js"),
  },
  {
    path: "/conversations", title: "Conversations", group: "Now", key: "c", scope: "read",
    load: () => import("./pages/conversations.js"),
  },
  {
    path: "/conversations/{id}", title: "Conversation", under: "/conversations", scope: "read",
    load: () => import("./pages/conversation.js"),
  },
  {
    path: "/dead-letters", title: "Dead letters", group: "Now", key: "d", scope: "operate",
    load: () => import("./pages/letters.js"), count: (frame) => frame.dead_letters,
  },
  {
    path: "/dead-letters/{id}", title: "Dead letter", under: "/dead-letters", scope: "operate",
    load: () => import("./pages/letter.js"),
  },
  {
    path: "/playground", title: "Playground", group: "Models", key: "p", scope: "write",
    load: () => import("./pages/playground.js"),
  },
  { path: "/models", title: "Models", group: "Models", key: "m", scope: "read", load: () => import("./pages/models.js") },
  { path: "/agents", title: "Agents", group: "Models", key: "a", scope: "read", load: () => import("./pages/agents.js") },
  { path: "/queue", title: "Queue", group: "System", key: "q", scope: "operate", load: () => import("./pages/queue.js") },
  {
    path: "/topics/{topic}/{partition}", title: "Records", under: "/queue", scope: "admin",
    load: () => import("./pages/records.js"),
  },
  { path: "/workers", title: "Workers", group: "System", key: "w", scope: "operate", load: () => import("./pages/workers.js") },
  { path: "/people", title: "People", group: "Access", key: "u", scope: "admin", load: () => import("./pages/people.js") },
  { path: "/keys", title: "Keys", group: "Access", key: "k", scope: "read", load: () => import("./pages/keys.js") },
  { path: "/audit", title: "Audit", group: "Access", key: "l", scope: "admin", load: () => import("./pages/audit.js") },
];
