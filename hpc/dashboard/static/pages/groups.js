// Placement groups.
import { html } from "../ui.js";
import { List } from "../list.js";

export default function Groups({ data, params, set }) {
  return html`<${List} title="Placement groups" data=${data} params=${params} set=${set} />`;
}
