// Objects, and the bytes that each process owns.
import { html, Panel, Table } from "../ui.js";
import { List, end } from "../list.js";

export default function Objects({ data, params, set }) {
  const owners = { columns: ["owner", "objects", "all_bytes"], rows: data.owners, total: data.owners.length, matching: data.owners.length, from: 0 };
  const above = html`<${Panel} title="Owners with the most bytes"><${Table} data=${owners} params=${{}} set=${() => {}} find=${false} open=${(row) => set({ q: `owner=${row.owner}`, from: "" })} /><//>`;
  return html`<${List} title="Objects" data=${data} params=${params} set=${set} above=${above} show=${{ object_id: end }} note="once for each process that holds references" />`;
}
