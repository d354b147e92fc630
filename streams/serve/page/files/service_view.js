// One Service as it is now: frontend and backend side by side, endpoints by zone and node, its decision, its routers.

import { get } from "./api.js";
import { serviceCommand } from "./command.js";
import { h, render } from "./dom.js";
import { endpointMap, endpointTable, endpointsOf } from "./endpoints.js";
import { frontendCard, provenance, routingCard, setCard } from "./facets.js";
import { meter } from "./list_view.js";
import { standingTable } from "./routers_view.js";
import { serviceHead } from "./service_frame.js";
import { stateBadge } from "./states.js";

const ROUTERS_MILLISECONDS = 2000;

export class ServiceView {
  #store;
  #host = null;
  #address = null;
  #isAll = false;
  #timer = 0;
  #frame = 0;
  #routers = null; // as /v1/propagation has them, or an error

  constructor(store) {
    this.#store = store;
  }

  title() {
    return `${this.#address.namespace}/${this.#address.name}`;
  }

  command() {
    return serviceCommand({ ...this.#address, cluster: this.#cluster });
  }

  get #cluster() {
    return this.#address.parameters.get("cluster") ?? "";
  }

  open(host, address) {
    [this.#host, this.#isAll, this.#routers] = [host, false, null];
    const redraw = () => this.#schedule();
    const change = ({ detail }) => {
      const path = `${this.#address.namespace}/${this.#address.name}`;
      if ([...detail.changed].some((id) => id === path || id.endsWith(`/${path}`))) this.#schedule();
    };
    this.#store.addEventListener("reset", redraw);
    this.#store.addEventListener("change", change);
    this.move(address);
    this.#ask();
    this.#timer = setInterval(() => this.#ask(), ROUTERS_MILLISECONDS);
    return () => {
      this.#store.removeEventListener("reset", redraw);
      this.#store.removeEventListener("change", change);
      clearInterval(this.#timer);
      cancelAnimationFrame(this.#frame);
      this.#frame = 0;
    };
  }

  move(address) {
    this.#address = address;
    this.#draw();
  }

  tick() {
    this.#schedule();
  }

  #schedule() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  async #ask() {
    if (document.visibilityState !== "visible") return;
    const { namespace, name } = this.#address;
    this.#routers = await get("v1/propagation", { namespace, service: name }).catch((error) => ({ error }));
    this.#schedule();
  }

  #draw() {
    this.#frame = 0;
    const { namespace, name } = this.#address;
    const all = this.#store.ofService(namespace, name);
    const clusters = all.map((entry) => entry.cluster);
    const cluster = this.#cluster;
    const entries = all.filter((entry) => !cluster || entry.cluster === cluster);
    const head = serviceHead({ namespace, name, view: "", cluster, clusters });
    if (!entries.length) return render(this.#host, head, this.#missing(clusters));
    const set = this.#store.sets.get(`${namespace}/${name}`);
    const backends = entries.map(({ backend }) => backend).filter(Boolean);
    const endpoints = endpointsOf(backends);
    const frontends = entries.map(({ frontend }) => frontend).filter(Boolean);
    const routings = entries.map(({ routing }) => routing).filter(Boolean);
    return render(this.#host, head,
      h("div", { class: "sides", key: "sides" },
        h("section", { class: "side frontend", "aria-labelledby": "frontend" },
          h("h2", { id: "frontend" }, "Frontend", h("small", {}, "where it is reached")),
          frontends.length ? frontends.map((row) => frontendCard(row, this.#store.shown(row))) : h("p", { class: "none" }, "There is no Service of this name: its endpoints are held until it comes."),
          !cluster && set && setCard(set),
        ),
        h("section", { class: "side backend", "aria-labelledby": "backend" },
          h("h2", { id: "backend" }, "Backend", h("small", {}, "what stands behind it"), h("span", { class: "total" }, meter(endpoints))),
          endpoints.length > 0 && h("div", { class: "card" }, endpointMap(endpoints, undefined, (each) => this.#about(backends.find((row) => row.cluster === each)))),
          backends.filter((row) => !row.endpoints.length).map((row) => h("div", { class: "card", key: `backend ${row.cluster}` }, h("h4", {}, row.cluster, h("small", {}, "no endpoint"), this.#about(row)))),
        ),
      ),
      h("section", { class: "wide", key: "routing", "aria-labelledby": "routing" },
        h("h2", { id: "routing" }, "Routing decision", h("small", {}, "to the frontend, or to the backend")),
        h("div", { class: "cards" }, routings.map((row) => routingCard(row, this.#store.shown(row)))),
      ),
      h("section", { class: "wide", key: "endpoints", "aria-labelledby": "endpoints" },
        h("h2", { id: "endpoints" }, "Endpoints", h("small", {}, `${endpoints.length}`)),
        endpoints.length > 0 && endpointTable(endpoints, { caption: `Endpoints of ${namespace}/${name}`, isAll: this.#isAll, showAll: () => this.#showAll() }),
      ),
      h("section", { class: "wide", key: "routers", "aria-labelledby": "routers" },
        h("h2", { id: "routers" }, "Routers", h("small", {}, "which have it, and how late")),
        this.#standing(),
      ),
    );
  }

  #about(row) {
    const shown = this.#store.shown(row);
    return [stateBadge(shown.state, shown.reason), h("div", { class: "about" }, provenance(row, shown))];
  }

  #showAll() {
    this.#isAll = true;
    this.#draw();
  }

  #standing() {
    if (!this.#routers) return h("p", { class: "wait" }, "Asking");
    if (this.#routers.error) return h("p", { class: "wait" }, `Not known: ${this.#routers.error.message}`);
    const [service] = this.#routers.services;
    return service ? standingTable(service, this.#routers.clients) : h("p", { class: "none" }, "It has no port that routers are given.");
  }

  #missing(clusters) {
    if (!this.#store.complete) return h("p", { class: "wait", key: "wait" }, "Reading the tables");
    const { namespace, name } = this.#address;
    if (clusters.length) return h("p", { class: "wait", key: "missing" }, `${namespace}/${name} is not in cluster ${this.#cluster}; it is in ${clusters.join(", ")}.`);
    const near = [...new Set([...this.#store.entries.values()].filter((entry) => entry.name === name || (entry.namespace === namespace && likeness(entry.name, name))).map(({ path }) => path))].slice(0, 5);
    return h("div", { class: "wait", key: "missing" }, h("p", {}, `No cluster has a Service ${namespace}/${name}.`),
      near.length > 0 && h("p", {}, "Near ones: ", near.map((path, i) => [i > 0 && ", ", h("a", { href: `#/services/${path}` }, path)])),
      h("p", {}, "If it was deleted, its ", h("a", { href: `#/services/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}/timeline` }, "timeline"), " shows when, and what it was."));
  }
}

/** Whether two names differ in two letters at most, or one begins with the other. */
function likeness(one, other) {
  if (one.startsWith(other) || other.startsWith(one)) return true;
  let row = Array.from({ length: other.length + 1 }, (_, i) => i);
  for (let i = 1; i <= one.length; i++) {
    const next = [i];
    for (let j = 1; j <= other.length; j++) next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (one[i - 1] === other[j - 1] ? 0 : 1));
    row = next;
  }
  return row[other.length] <= 2;
}
