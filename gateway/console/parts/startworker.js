// What helps where no worker runs: commands, since no page can start a process.
import { html } from "../html.js";
import { Command } from "./copy.js";

export const StartWorker = () => html`With the settings of the others: <${Command} text="orchestra worker" /> or, in the stack of <code>make up</code>, <${Command} text="orchestra scale workers 1" />`;
