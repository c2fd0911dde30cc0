// The key and the headers that a replay sends: as text where they are UTF-8, otherwise in base64.
import { html } from "../html.js";
import { bytesOf, decode, encode, fromBase64, toBase64 } from "../bytes.js";
import { Panel } from "./panel.js";
import { Sign } from "./sign.js";

/** A value that a field of one line would change. */
const LINES = /[\r\n]/;

/** @param {{ draft: import("../letter.js").Draft, change: (draft: import("../letter.js").Draft) => void }} props */
export function LetterHeaders({ draft, change }) {
  const { headers } = draft;
  const set = (/** @type {number} */ at, /** @type {Partial<import("../letter.js").Header>} */ more) =>
    change({ ...draft, headers: headers.map((each, index) => (index === at ? { ...each, ...more } : each)) });
  const add = () => change({ ...draft, headers: [...headers, { name: "", value: "", value_base64: null }] });
  const remove = (/** @type {number} */ at) => change({ ...draft, headers: headers.filter((_, index) => index !== at) });
  const put = (/** @type {number} */ at) => (/** @type {Uint8Array} */ bytes) => {
    const text = decode(bytes);
    set(at, text === null ? { value: null, value_base64: toBase64(bytes) } : { value: text, value_base64: null });
  };
  return html`<${Panel} title="Key and headers" tools=${html`<button type="button" onClick=${add}>Add a header</button>`} flush>
    <table class="cards headers"><thead><tr><th>Name</th><th>Value</th><th><span class="hidden">Actions</span></th></tr></thead><tbody>
      <tr><td class="dim">key</td><td><${Value} label="Key" bytes=${draft.key} none="no key" put=${(/** @type {Uint8Array} */ key) => change({ ...draft, key })} /></td>
        <td class="end">${draft.key !== null && html`<${Remove} label="the key" run=${() => change({ ...draft, key: null })} />`}</td></tr>
      ${headers.map((each, index) => html`<tr key=${index}>
        <td><input class="mono" aria-label=${`Name of header ${index + 1}`} value=${each.name} placeholder="name" maxlength="1000" autocomplete="off" spellcheck=${false}
          onInput=${(/** @type {any} */ event) => set(index, { name: event.target.value })} /></td>
        <td><${Value} label=${`Value of header ${index + 1}`} bytes=${bytesOf(each.value, each.value_base64)} none="no value" put=${put(index)} /></td>
        <td class="end"><${Remove} label=${`header ${each.name || index + 1}`} run=${() => remove(index)} /></td></tr>`)}
    </tbody></table></${Panel}>`;
}

/** @param {{ label: string, bytes: Uint8Array | null, none: string, put: (bytes: Uint8Array) => void }} props */
function Value({ label, bytes, none, put }) {
  const text = bytes && decode(bytes);
  const asText = !bytes || (text !== null && !LINES.test(text));
  const typed = (/** @type {any} */ event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    try {
      put(asText ? encode(field.value) : fromBase64(field.value));
      field.setCustomValidity("");
    } catch {
      field.setCustomValidity("It is not base64");
      field.reportValidity();
    }
  };
  return html`<span class="value"><input class="mono" aria-label=${asText ? label : `${label}, in base64`} value=${bytes ? (asText ? text : toBase64(bytes)) : ""} placeholder=${none}
    autocomplete="off" spellcheck=${false} onInput=${asText ? typed : undefined} onChange=${asText ? undefined : typed} />${!asText && html`<span class="dim">base64</span>`}</span>`;
}

/** @param {{ label: string, run: () => void }} props */
const Remove = ({ label, run }) => html`<button type="button" class="icon" aria-label=${`Remove ${label}`} title="Remove" onClick=${run}><${Sign} name="close" /></button>`;
