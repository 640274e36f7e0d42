// A list with the states of its rows above it, and all that is known of the chosen row: what the pages of lists share.
import { html, Facts, Panel, State, Table, count, link } from "./ui.js";

export function States({ states, params, set }) {
  const isOn = (name) => params.q === `state=${name.toLowerCase()}`;
  return html`<span>${Object.entries(states).map(([name, many]) => html`<button class=${isOn(name) ? "on" : ""} onClick=${() => set({ q: isOn(name) ? "" : `state=${name.toLowerCase()}`, from: "" })}>${name.toLowerCase().replaceAll("_", " ")} ${count(many)}</button> `)}</span>`;
}

// `links(row)`: what else there is of a row, as [words, page, parameters].
export function List({ title, data, params, set, columns, show = {}, links = () => [], above, note }) {
  const chosen = data.ones;
  return html`${params.id ? html`<${Panel} title=${`${title} ${params.id}`} tools=${html`<button onClick=${() => set({ id: "" })}>close</button>`}>
      ${chosen.length ? chosen.map((one) => html`<${Facts} of=${one} /><p>${links(one).map(([words, page, more]) => html`<a href=${link(page, more)}>${words}</a>   `)}</p>`)
        : html`<p class="empty">nobody knows it any more</p>`}<//>` : null}
    ${above}
    <${Panel} title=${title} note=${note} tools=${html`<${States} states=${data.states} params=${params} set=${set} />`}>
      <${Table} data=${data} columns=${columns} params=${params} set=${set} open=${(row) => set({ id: row[data.key] })} show=${{ state: (is) => html`<${State} is=${is} />`, [data.key]: end, ...show }} /><//>`;
}

// The last digits of an id, which tell it from others; the first ones are its maker's.
export const end = (id) => html`<span title=${id}>${id.length > 14 ? `…${id.slice(-10)}` : id}</span>`;
