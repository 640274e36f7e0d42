// Workers and drivers, those that have ended too as far as their nodes remember.
import { html } from "../ui.js";
import { List } from "../list.js";

export default function Workers({ data, params, set }) {
  const links = (row) => (row.worker_type === "DRIVER" ? [] : [["what it wrote", "logs", { worker: row.worker_id }]]);
  return html`<${List} title="Workers" data=${data} params=${params} set=${set} links=${links} show=${{ is_actor: (is) => (is ? "actor" : ""), blocked: (is) => (is ? "blocked" : "") }} />`;
}
