// The frame of every page: the rail, the state of the connection, what was said last, and the page itself.
import { useEffect, useState } from "preact/hooks";
import { html } from "../html.js";
import { count } from "../format.js";
import { frame } from "../live.js";
import { PAGES } from "../pages.js";
import { link, path, query, route } from "../router.js";
import { ask, may, name, session, signOut, state } from "../session.js";
import { help } from "../keys.js";
import { nextTheme, theme } from "../theme.js";
import { SignIn } from "../pages/signin.js";
import { Connection } from "./connection.js";
import { Help } from "./help.js";
import { Notices } from "./notices.js";
import { Page } from "./page.js";
import { Empty, Failure } from "./panel.js";
import { Sign } from "./sign.js";
import { Simulated } from "./simulated.js";

export function Shell() {
  if (state.value === "asking") return html`<div class="waiting" aria-busy="true"></div>`;
  if (state.value === "unreachable") {
    return html`<main class="alone"><${Empty} title="The gateway does not answer" sign="bad">
      <p class="dim">It may be starting, or the network between it and this browser is down.</p>
      <button type="button" onClick=${ask}>Try again</button></${Empty}></main>`;
  }
  if (state.value === "signed_out") return html`<${SignIn} />`;
  return html`<a class="skip" href="#page">Skip to the page</a>
    <${Rail} />
    <div class="opened"><${Simulated} /><main id="page" tabindex="-1"><${Opened} /></main></div>
    <${Notices} />
    ${help.value && html`<${Help} />`}`;
}

function Rail() {
  const opened = route.value?.page;
  // On a phone it is a strip that does not show all.
  useEffect(() => document.querySelector("nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" }), [opened, session.value]);
  const groups = [...new Set(PAGES.map((page) => page.group))].filter((group) => group !== undefined);
  return html`<div class="rail">
    <a class="brand" href=${link("/")}><${Mark} /><span>LLM Orchestra</span></a>
    <nav aria-label="Pages">${groups.map((group) => html`<${Group} key=${group} name=${group} />`)}</nav>
    <div class="foot">
      <${Connection} />
      <div class="who">
        <${Caller} />
        <button type="button" class="icon" title=${`Theme: ${theme.value} (t)`} aria-label=${`Theme: ${theme.value}`} onClick=${nextTheme}><${Sign} name="theme" /></button>
        <button type="button" class="icon keys" title="Keys (?)" aria-label="Keys" onClick=${() => (help.value = true)}><${Sign} name="keys" /></button>
      </div>
    </div>
  </div>`;
}

/** @param {{ name: string }} props */
function Group({ name }) {
  const pages = PAGES.filter((page) => page.group === name && may(page.scope));
  if (!pages.length) return null;
  const opened = route.value?.page;
  return html`<div class="group"><h2>${name}</h2>${pages.map((page) => {
    const here = page === opened || page.path === opened?.under;
    const counted = page.count && frame.value?.workers && page.count(frame.value);
    return html`<a key=${page.path} href=${link(page.path)} aria-current=${here ? "page" : undefined} title=${page.key && `g ${page.key}`}>
      ${page.title}${counted && counted.count > 0 && html`<b>${count(counted)}</b>`}</a>`;
  })}</div>`;
}

function Caller() {
  if (session.value?.mode === "open") return html`<span class="name dim" title="Everyone who reaches this gateway may do everything">open mode</span>`;
  return html`<span class="name" title=${name.value}>${name.value}</span>
    <button type="button" class="quiet" onClick=${signOut}>Sign out</button>`;
}

const Mark = () => html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" />
  <path d="M7 10h8M7 16h13M7 22h5" /><circle cx="21.5" cy="10" r="2.3" /><circle cx="25" cy="16" r="2.3" /><circle cx="18.5" cy="22" r="2.3" /></svg>`;

/** The page that the address names; its module is loaded when it is first opened. */
function Opened() {
  const opened = route.value;
  const [loaded, set] = useState(/** @type {{ page: any, component?: any, error?: any }} */ ({ page: null }));
  const page = opened?.page;
  useEffect(() => {
    document.title = `${page ? page.title : "Not found"} · LLM Orchestra`;
    if (!page) return;
    let here = true; // A module that comes after its page was left must not replace the page that is here.
    page.load().then((module) => here && set({ page, component: module.default }), (error) => here && set({ page, error }));
    return () => void (here = false);
  }, [page]);
  if (!opened || !page) return html`<${Missing} />`;
  if (!may(page.scope)) return html`<${Page} title=${page.title}><${Empty} title="This page needs another scope" sign="warn">
    <p class="dim">It needs the scope <code>${page.scope}</code>. <a href=${link("/")}>Back to the overview</a></p></${Empty}></${Page}>`;
  if (loaded.page !== page) return html`<div class="loading" aria-busy="true"></div>`;
  if (loaded.error) {
    return html`<${Failure} problem=${{ title: "The page could not be loaded", detail: "The gateway may have been upgraded.", code: "unreachable" }} again=${() => location.reload()} />`;
  }
  return html`<${loaded.component} key=${path.value} ...${opened.parts} query=${query.value} />`;
}

const Missing = () => html`<${Page} title="Not found"><${Empty} title="The console has no such page">
  <p><a href=${link("/")}>Back to the overview</a></p></${Empty}></${Page}>`;
