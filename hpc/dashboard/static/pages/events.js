// Events: what happened in the session, the newest first; by severity and kind; and all that is known of the chosen one.
import { html, count, Facts, link, Panel, State, Table, when } from "../ui.js";
import { end } from "../list.js";

const named = (kind) => kind.toLowerCase().replaceAll("_", " ");

function Choices({ field, found, params, set }) {
  const is = (name) => `${field}=${name.toLowerCase()}`, isOn = (name) => params.q === is(name);
  return html`<span>${Object.entries(found).map(([name, many]) => html`<button class=${isOn(name) ? "on" : ""} aria-pressed=${isOn(name)} onClick=${() => set({ q: isOn(name) ? "" : is(name), from: "" })}>${named(name)} ${count(many)}</button> `)}</span>`;
}

function One({ one }) {
  return html`<${Facts} of=${one} skip=${["links", "number"]} /><p>${one.links.map(([words, page, params]) => html`<a href=${link(page, params)}>${words}</a>   `)}</p>`;
}

export default function Events({ data, params, set }) {
  return html`${params.id ? html`<${Panel} title=${`Event ${params.id}`} tools=${html`<button onClick=${() => set({ id: "" })}>close</button>`}>
      ${data.ones.length ? html`<${One} one=${data.ones[0]} />` : html`<p class="empty">it is not kept any more</p>`}<//>` : null}
    <${Panel} title="Events" note=${data.missing ? `${count(data.missing)} older ones are not kept any more` : ""} tools=${html`<${Choices} field="severity" found=${data.severities} params=${params} set=${set} />`}>
      <div class="tools"><${Choices} field="kind" found=${data.kinds} params=${params} set=${set} /></div>
      <${Table} data=${data} params=${params} set=${set} open=${(row) => set({ id: row.number })} columns=${data.columns.filter((name) => name !== "number")}
        show=${{ time_ms: when, severity: (is) => html`<${State} is=${is} />`, kind: named, entity_id: end, count: (many) => (many > 1 ? count(many) : "") }} /><//>`;
}
