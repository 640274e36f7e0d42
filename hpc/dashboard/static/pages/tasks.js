// Tasks and calls: those that are not finished first, then the newest that workers remember.
import { html } from "../ui.js";
import { List } from "../list.js";

const COLUMNS = ["task_id", "name", "state", "node_id", "worker_id", "start_time_ms", "run_s", "attempt_number", "why"];

export default function Tasks({ data, params, set }) {
  const links = (row) => [["what it wrote", "logs", { task: row.task_id }], ...(row.actor_id ? [["its actor", "actors", { id: row.actor_id }]] : []), ...(row.worker_id ? [["its worker", "workers", { id: row.worker_id }]] : [])];
  return html`<${List} title="Tasks" data=${data} params=${params} set=${set} columns=${COLUMNS} links=${links} note="of those that have ended the newest 10,000" />`;
}
