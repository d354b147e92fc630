// Two moments of a Service, compared.

import { adjust } from "./address.js";
import { diffCommand } from "./command.js";
import { differences } from "./difference.js";
import { differenceList } from "./difference_list.js";
import { h, render } from "./dom.js";
import { endpointMap, endpointsOf, keyOf } from "./endpoints.js";
import { meter } from "./list_view.js";
import { Past } from "./past.js";
import { serviceHead } from "./service_frame.js";
import { clock, iso, readTime } from "./time.js";

export class CompareView {
  #store;
  #host = null;
  #address = null;
  #past = null;
  #error = null;
  #abort = null;

  constructor(store) {
    this.#store = store;
  }

  title() {
    return `${this.#address.namespace}/${this.#address.name}, two moments`;
  }

  command() {
    return diffCommand({ ...this.#address, cluster: this.#cluster }, this.#parameter("from"), this.#parameter("to"));
  }

  get #cluster() {
    return this.#address.parameters.get("cluster") ?? "";
  }

  #parameter(name) {
    const time = readTime(this.#address.parameters.get(name) ?? "");
    return time === null ? "" : iso(time);
  }

  open(host, address) {
    [this.#host, this.#address, this.#past, this.#error] = [host, address, new Past(address), null];
    this.#abort = new AbortController();
    this.#draw();
    this.#read();
    return () => this.#abort.abort();
  }

  async #read() {
    const { signal } = this.#abort;
    try {
      await this.#past.read(signal);
      // As far back as the older moment, so that both follow from what is held.
      const oldest = [this.#parameter("from"), this.#parameter("to")].filter(Boolean).sort()[0];
      if (oldest) await this.#past.readBack(oldest, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#error = error;
    }
    this.#draw();
  }

  move(address) {
    this.#address = address;
    this.#draw();
    this.#read();
  }

  #draw() {
    const { namespace, name } = this.#address;
    const clusters = [...new Set(this.#past.rows.map(({ cluster }) => cluster))].filter(Boolean).sort();
    render(this.#host, serviceHead({ namespace, name, view: "compare", cluster: this.#cluster, clusters, parameters: { from: this.#parameter("from"), to: this.#parameter("to") } }), this.#content());
  }

  #content() {
    if (this.#error) return h("p", { class: "wait", key: "error" }, this.#error.status === 404 && /openapi/.test(this.#error.message) ? "This server has no history: it is of an older version." : `The past is not known: ${this.#error.message}`);
    if (!this.#past.isRead) return h("p", { class: "wait", key: "wait" }, "Reading the past");
    const moments = [...new Set(this.#past.rows.filter((row) => !this.#cluster || row.cluster === this.#cluster).map((row) => row.asOf.at))].sort();
    if (!moments.length) return h("p", { class: "wait", key: "none" }, "Nothing is known of it in the journal.");
    const to = this.#parameter("to") || moments.at(-1);
    const from = this.#parameter("from") || moments.findLast((moment) => moment < to) || moments[0];
    const [before, after] = [from, to].map((at) => this.#past.at(at).filter((row) => !this.#cluster || row.cluster === this.#cluster));
    return [
      h("div", { class: "tools", key: "tools" }, this.#picker("from", "From (UTC)", from, moments), this.#picker("to", "To (UTC)", to, moments),
        h("button", { type: "button", on: { click: () => this.#go({ from: to, to: from }) } }, "Swap")),
      this.#differences(before, after),
      h("div", { class: "sides", key: "sides" }, this.#side("from", from, before, after, "removed"), this.#side("to", to, after, before, "added")),
    ];
  }

  #picker(name, label, at, moments) {
    const step = (by) => () => {
      const place = moments.findLastIndex((moment) => moment <= at) + by;
      this.#go({ [name]: moments[Math.max(0, Math.min(moments.length - 1, place))] });
    };
    return h("div", { class: "picker", key: name },
      h("label", {}, h("span", {}, `${label} `), h("input", { id: name, type: "text", value: clock(at), autocomplete: "off", spellcheck: "false", title: "A time, or how long ago: 14:03:12, 15m", on: { change: ({ target }) => this.#type(name, target) } })),
      h("button", { type: "button", "aria-label": `${name}: change before`, on: { click: step(-1) } }, "<"),
      h("button", { type: "button", "aria-label": `${name}: change after`, on: { click: step(1) } }, ">"));
  }

  #differences(before, after) {
    const places = new Map();
    for (const [side, rows] of [["before", before], ["after", after]]) for (const row of rows) places.set(`${row.table} ${row.cluster}`, { ...places.get(`${row.table} ${row.cluster}`), table: row.table, cluster: row.cluster, [side]: row });
    const found = [...places.values()].map(({ table, cluster, before: old = null, after: now = null }) => ({ table, cluster, items: differences(table, old, now) })).filter(({ items }) => items.length);
    return h("section", { class: "wide", key: "differences", "aria-labelledby": "differences" }, h("h2", { id: "differences" }, "What differs", h("small", {}, `${found.reduce((sum, { items }) => sum + items.length, 0)}`)),
      found.length === 0 && h("p", { class: "none" }, "Nothing differs."),
      h("div", { class: "cards", "aria-live": "polite" }, found.map(({ table, cluster, items }) => h("article", { class: "card", key: `${table} ${cluster}` }, h("h3", {}, cluster || "exported together", h("small", {}, table)), differenceList(items)))));
  }

  #side(name, at, rows, others, mark) {
    const endpoints = endpointsOf(rows.filter(({ table }) => table === "backend"));
    const held = new Map(endpointsOf(others.filter(({ table }) => table === "backend")).map((endpoint) => [keyOf(endpoint), endpoint]));
    const marks = new Map(endpoints.filter((endpoint) => !held.has(keyOf(endpoint))).map((endpoint) => [keyOf(endpoint), mark]));
    return h("section", { class: "side", key: name, "aria-labelledby": `side-${name}` }, h("h2", { id: `side-${name}` }, clock(at), h("span", { class: "total" }, meter(endpoints))),
      rows.length ? h("div", { class: "card" }, endpointMap(endpoints, marks)) : h("p", { class: "none" }, "There was no such Service."));
  }

  #type(name, input) {
    const time = readTime(input.value);
    input.setCustomValidity(time === null ? "A time such as 14:03:12 or 2026-11-24T12:00:00Z, or how long ago: 15m" : time > Date.now() ? "That time is still to come" : "");
    if (input.reportValidity()) this.#go({ [name]: iso(time) });
  }

  #go(parameters) {
    adjust(parameters);
    for (const [name, value] of Object.entries(parameters)) this.#address.parameters.set(name, value);
    this.#draw();
    this.#host.dispatchEvent(new CustomEvent("command", { bubbles: true }));
  }
}
