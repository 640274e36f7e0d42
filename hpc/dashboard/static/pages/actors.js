// Actors as their owners know them.
import { html } from "../ui.js";
import { List } from "../list.js";

export default function Actors({ data, params, set }) {
  const links = (row) => [["its calls", "tasks", { q: `actor_id=${row.actor_id}` }], ...(row.last_worker_id ? [["what it wrote", "logs", { actor: row.actor_id }], ["its worker", "workers", { id: row.last_worker_id }]] : [])];
  return html`<${List} title="Actors" data=${data} params=${params} set=${set} links=${links} show=${{ is_detached: (is) => (is ? "detached" : "") }} />`;
}
