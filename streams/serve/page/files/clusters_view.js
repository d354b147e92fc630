// Clusters: how far each is, whether it is heard of, and its Services.

import { format } from "./address.js";
import { Refused, get } from "./api.js";
import { h, render } from "./dom.js";
import { icon, stateBadge } from "./states.js";
import { ago, clock } from "./time.js";

const ASK_MILLISECONDS = 2000;
const SKEW_SECONDS = 2; // As `facets clusters` has it.

export class ClustersView {
  #store;
  #host = null;
  #clusters = null; // as /v1/clusters has them
  #error = null;
  #hasEndpoint = true;
  #timer = 0;

  constructor(store) {
    this.#store = store;
  }

  title() {
    return "Clusters";
  }

  command() {
    return "facets clusters";
  }

  open(host) {
    this.#host = host;
    this.#draw();
    this.#ask();
    this.#timer = setInterval(() => this.#ask(), ASK_MILLISECONDS);
    return () => clearInterval(this.#timer);
  }

  move() {}

  tick() {
    this.#draw();
  }

  async #ask() {
    if (document.visibilityState !== "visible") return;
    try {
      this.#clusters = await this.#read();
      this.#error = null;
    } catch (error) {
      this.#error = error;
    }
    if (this.#host.isConnected) this.#draw();
  }

  async #read() {
    if (this.#hasEndpoint) {
      try {
        return (await get("v1/clusters")).items;
      } catch (error) {
        if (!(error instanceof Refused) || error.status !== 404) throw error;
        this.#hasEndpoint = false; // An older server.
      }
    }
    return fromPropagation(await get("v1/propagation", { namespace: "default", service: "kubernetes" }), this.#store);
  }

  #draw() {
    render(this.#host, h("h1", {}, "Clusters"), this.#content());
  }

  #content() {
    if (this.#error) return h("p", { class: "wait" }, `Not known: ${this.#error.message}`);
    if (!this.#clusters) return h("p", { class: "wait" }, "Asking");
    if (!this.#clusters.length) return h("p", { class: "wait" }, "No cluster has been heard of.");
    const counts = new Map();
    for (const { cluster, backend } of this.#store.entries.values()) {
      const count = counts.get(cluster) ?? { services: 0, endpoints: 0 };
      count.services += 1;
      count.endpoints += backend?.endpoints.length ?? 0;
      counts.set(cluster, count);
    }
    return h("div", { class: "cards clusters" }, this.#clusters.map((cluster) => this.#card(cluster, counts.get(cluster.name) ?? { services: 0, endpoints: 0 })));
  }

  #card({ name, state, reason, staleSince, epoch, lagSeconds, lastCommit, clockSkewSeconds, deadLetters, source, partitions }, { services, endpoints }) {
    const live = this.#store.clusters.get(name);
    const fact = (term, content) => h("div", {}, h("dt", {}, term), h("dd", {}, content));
    return h("section", { class: "card", key: name, "aria-label": `Cluster ${name}` },
      h("h2", {}, name, stateBadge(state === "closed" ? "deleted" : state, reason)),
      reason && h("p", { class: "reason" }, icon(state), ` ${reason}`),
      h("dl", {},
        fact("Lag", lagSeconds === null ? "not known" : `${lagSeconds.toFixed(1)} s`),
        staleSince && fact("Stale since", `${clock(staleSince)} UTC, ${ago(staleSince)} ago`),
        fact("Last commit", lastCommit ? [h("time", { datetime: lastCommit }, `${clock(lastCommit)} UTC`), `, ${ago(lastCommit)} ago`] : "not known"),
        fact("Epoch", epoch || live?.epoch || "not known"),
        fact("Services", h("a", { href: format("", { q: `cluster:${name}` }) }, services.toLocaleString("en"))),
        fact("Endpoints", endpoints.toLocaleString("en")),
        fact("Changes seen here", (live?.changes ?? 0).toLocaleString("en")),
        Math.abs(clockSkewSeconds) > SKEW_SECONDS && fact("Its clock", [icon("stale"), ` is ${Math.abs(clockSkewSeconds).toFixed(1)} s ${clockSkewSeconds > 0 ? "ahead" : "behind"}`]),
        deadLetters > 0 && fact("Could not be read", `${deadLetters} objects or records`),
        source && fact("Source", source),
      ),
      h("details", {}, h("summary", {}, `${partitions.length} partitions`), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Partitions of ${name}` }, h("table", {},
        h("thead", {}, h("tr", {}, ["Partition", "Offset", "Lag", "State"].map((term) => h("th", { scope: "col" }, term)))),
        h("tbody", {}, partitions.map(({ partition, offset, lagSeconds: lag, stale }) => h("tr", { key: partition }, h("th", { scope: "row" }, partition), h("td", {}, offset), h("td", {}, lag === null ? "-" : `${lag.toFixed(1)} s`), h("td", {}, stale || "heard of"))))))),
    );
  }
}

/** The clusters, of what /v1/propagation says of each partition. */
function fromPropagation({ frontiers }, store) {
  const byName = new Map();
  for (const frontier of frontiers) {
    if (!byName.has(frontier.cluster)) byName.set(frontier.cluster, []);
    byName.get(frontier.cluster).push(frontier);
  }
  return [...byName].sort(([one], [other]) => (one < other ? -1 : 1)).map(([name, own]) => {
    const reason = own.find(({ stale }) => stale)?.stale ?? "";
    return {
      name,
      state: reason ? "stale" : "ready",
      reason,
      staleSince: store.stale[name]?.since ?? "",
      epoch: 0,
      lagSeconds: own.some(({ ageSeconds }) => ageSeconds !== null) ? Math.max(...own.map(({ ageSeconds }) => ageSeconds ?? 0)) : null,
      lastCommit: own.map(({ at }) => at).sort().at(-1),
      clockSkewSeconds: 0,
      deadLetters: 0,
      source: "",
      partitions: own.map(({ partition, offset, ageSeconds, stale }) => ({ partition, offset, lagSeconds: ageSeconds, stale })),
    };
  });
}
