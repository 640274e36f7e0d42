// Jobs: those of the machine, and the line that opens each one's dashboard or report.
import { html, duration } from "../ui.js";
import { List } from "../list.js";

export default function Jobs({ data, params, set }) {
  const line = (text) => html`<code>${text}</code>`;
  return html`<${List} title="Jobs" data=${data} params=${params} set=${set} note="as hpc ps has them"
    show=${{ job: (job) => job, opens: line, logs: line, age_s: (s) => (s == null ? "" : duration(Math.round(s))), left_s: (s) => (s == null ? "" : duration(Math.round(s))), exit_code: (code) => (code == null ? "" : code) }} />`;
}
