// Which routers had which version of a Service at a moment, by what servers recorded of their acknowledgements.

import { h } from "./dom.js";

export class RoutersThen {
  constructor(service, redraw) {
    Object.assign(this, { service, redraw });
  }

  draw() {
    return h("p", { class: "hint", key: "routers" }, "Which routers had this version then is not recorded by this server.");
  }
}
