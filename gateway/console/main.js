// The console begins here.
import { render } from "preact";
import { html } from "./html.js";
import { start as startKeys } from "./keys.js";
import { start as startLive } from "./live.js";
import { Shell } from "./parts/shell.js";
import { start as startRouter } from "./router.js";
import { start as startSession } from "./session.js";
import { start as startTheme } from "./theme.js";

startTheme();
startRouter();
startKeys();
startLive();
startSession();
const root = document.getElementById("console");
if (root) render(html`<${Shell} />`, root);
