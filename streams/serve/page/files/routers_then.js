// Which routers had which version of a Service at a moment, by what servers recorded of their acknowledgements. It is
// asked for by a person, as each question reads what was recorded up to that time.

import { Refused, get } from "./api.js";
import { h } from "./dom.js";
import { icon } from "./states.js";
import { clock } from "./time.js";

const MOST = 50; // So many routers are asked for.

export class RoutersThen {
  #service;
  #redraw;
  #signal;
  #asked = null; // the time that `#answer` is of, or that is asked for
  #answer = null; // { routers: [{ node, connected, version }], remarks, more }, or an error

  constructor(service, signal, redraw) {
    [this.#service, this.#signal, this.#redraw] = [service, signal, redraw];
  }

  /** What is known of the time `until` which a moment's rows held: just before the next change ("": they hold still). */
  draw(until) {
    return h("section", { class: "routers-then", key: "routers", "aria-labelledby": "routers-then" },
      h("h2", { id: "routers-then" }, "Routers then", h("small", {}, until ? "what each had when the next change came" : "what each has now")),
      this.#content(until));
  }

  #content(at) {
    if (this.#asked !== at) return h("button", { type: "button", id: "ask-routers", on: { click: () => this.#ask(at) } }, at ? `Which routers had what at ${clock(at)}?` : "Which routers have what?");
    if (!this.#answer) return h("p", { class: "wait" }, "Reading what was acknowledged");
    const { error, routers, remarks, more } = this.#answer;
    if (error) return h("p", { class: "hint" }, error.status === 404 && /openapi/.test(error.message) ? "This server has no record of what routers acknowledged: it is of an older version." : `Not known: ${error.message}`);
    return [
      routers.length
        ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Routers then" }, h("table", {}, h("thead", {}, h("tr", {}, ["Router", "Had", "Since", "State"].map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, routers.map(line))))
        : h("p", { class: "none" }, "No router is known to have had it."),
      more > 0 && h("p", { class: "hint" }, `and ${more} more routers: \`facets history --router NODE\``),
      remarks.map((remark) => h("p", { class: "hint" }, remark)),
    ];
  }

  async #ask(at) {
    [this.#asked, this.#answer] = [at, null];
    this.#redraw();
    const answer = await this.#read(at).catch((error) => ({ error }));
    if (this.#asked === at && !this.#signal.aborted) {
      this.#answer = answer;
      this.#redraw();
    }
  }

  async #read(at) {
    const { namespace, name: service } = this.#service;
    const { routers, remarks } = await get("v1/routers", { at }, this.#signal);
    const found = [];
    for (const { node, connected } of routers.slice(0, MOST)) {
      if (this.#asked !== at) break; // Another moment is asked for.
      const versions = await get(`v1/routers/${encodeURIComponent(node)}/versions`, { at, namespace, service }, this.#signal).catch((error) => {
        if (error instanceof Refused && error.status === 404) return { services: [] };
        throw error;
      });
      const [version] = versions.services;
      if (version) found.push({ node, connected, version });
    }
    return { routers: found, remarks, more: Math.max(0, routers.length - MOST) };
  }
}

/** A router gets no version that changes nothing for it: it is late with what it was sent, not with the newest one. */
function line({ node, connected, version: { acked, ackedAt, sent, refused } }) {
  const state = refused
    ? h("span", { class: "condition refused", title: refused.error }, icon("deleted"), `refused version ${refused.version}: ${refused.error}`)
    : sent > acked
      ? h("span", { class: "condition late" }, icon("stale"), `had not acknowledged version ${sent}`)
      : h("span", { class: "condition ready" }, icon("ready"), "had all that it was sent");
  return h("tr", { key: node },
    h("th", { scope: "row" }, node),
    h("td", {}, acked < 0 ? "nothing" : `version ${acked}`),
    h("td", {}, ackedAt ? clock(ackedAt) : "-"),
    h("td", {}, state, !connected && " (not connected)"));
}
