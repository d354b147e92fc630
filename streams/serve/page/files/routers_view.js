// Routers: what each has acknowledged, and how late it is.

import { ofService } from "./address.js";
import { get } from "./api.js";
import { h, render } from "./dom.js";
import { icon } from "./states.js";
import { ago, clock, span } from "./time.js";

const ASK_MILLISECONDS = 2000;
const LATE_SHOWN = 20;

const heads = (names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));

const lateness = (behind, milliseconds) =>
  behind ? h("span", { class: "condition late" }, icon("stale"), `${behind} behind${milliseconds === undefined ? "" : `, ${milliseconds} ms`}`) : h("span", { class: "condition ready" }, icon("ready"), "up to date");

/** A Service's standing at each router that follows it. */
export function standingTable(service, clients) {
  const byId = new Map(clients.map((client) => [client.id, client]));
  return [
    service.sharedAddresses.length > 0 && h("p", { class: "reason" }, icon("stale"), " Several clusters have these addresses, a client gets its own cluster's: ", service.sharedAddresses.map(({ address, clusters }) => `${address} (${clusters.join(", ")})`).join("; ")),
    service.clients.length
      ? h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Routers that follow it" }, h("table", {}, h("caption", {}, `Newest version ${service.version}, of ${clock(service.at)} UTC`), heads(["Router", "Cluster", "Sent", "Acknowledged", "Behind"]),
        h("tbody", {}, service.clients.map(({ client, node, sent, acked, behind, behindMilliseconds }) => h("tr", { key: client }, h("th", { scope: "row" }, node), h("td", {}, byId.get(client)?.cluster || "-"), h("td", {}, sent < 0 ? "-" : sent), h("td", {}, acked < 0 ? "-" : acked), h("td", {}, lateness(behind, behindMilliseconds)))))))
      : h("p", { class: "none" }, "No connected router follows it."),
  ];
}

export class RoutersView {
  #host = null;
  #report = null;
  #timer = 0;

  title() {
    return "Routers";
  }

  command() {
    return "facets status";
  }

  open(host) {
    [this.#host, this.#report] = [host, null];
    this.#draw();
    this.#ask();
    this.#timer = setInterval(() => this.#ask(), ASK_MILLISECONDS);
    return () => clearInterval(this.#timer);
  }

  move() {}

  async #ask() {
    if (document.visibilityState !== "visible") return;
    this.#report = await get("v1/propagation").catch((error) => ({ error }));
    if (this.#host.isConnected) this.#draw();
  }

  #draw() {
    render(this.#host, h("h1", {}, "Routers"), this.#content());
  }

  #content() {
    const report = this.#report;
    if (!report) return h("p", { class: "wait" }, "Asking");
    if (report.error) return h("p", { class: "wait" }, `Not known: ${report.error.message}`);
    const { clients, services } = report;
    if (!clients.length) return h("p", { class: "wait" }, "No router is connected. ", h("code", {}, "facets envoy-bootstrap"), " prints what points an Envoy or a gRPC client here.");
    const late = services.flatMap((service) => service.clients.filter(({ behind }) => behind).map((standing) => ({ service, ...standing }))).sort((one, other) => other.behindMilliseconds - one.behindMilliseconds);
    const oldest = new Map();
    for (const { client, behindMilliseconds } of late) oldest.set(client, Math.max(behindMilliseconds, oldest.get(client) ?? 0));
    return [
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Connected routers", key: "clients" }, h("table", {},
        h("caption", {}, `${clients.length} connected, ${clients.filter(({ behind }) => behind).length} behind`),
        heads(["Router", "State", "Cluster", "Zone", "Traffic", "Refusals", "Agent", "Protocol", "From", "Connected"]),
        h("tbody", {}, clients.map((client) => h("tr", { key: client.id },
          h("th", { scope: "row" }, client.node || "(no name)"),
          h("td", {}, client.behind ? h("span", { class: "condition late" }, icon("stale"), `${client.behind} Services behind, for ${span(oldest.get(client.id) ?? 0)}`) : lateness(0)),
          h("td", {}, client.cluster || "-"), h("td", {}, client.zone || "-"), h("td", {}, client.traffic || "-"),
          h("td", {}, client.nacks ? h("span", { class: "condition refused", title: client.lastNack }, icon("deleted"), `${client.nacks}: ${client.lastNack}`) : "none"),
          h("td", {}, client.agent || "-"), h("td", {}, client.variant === "delta" ? "incremental" : "state of the world"), h("td", { class: "mono" }, client.peer),
          h("td", { title: client.since }, `${ago(client.since)} ago`)))))),
      late.length > 0 && h("section", { key: "late", "aria-labelledby": "late" }, h("h2", { id: "late" }, "Furthest behind"), h("ul", { class: "plain" }, late.slice(0, LATE_SHOWN).map(({ service, node, acked, behindMilliseconds }) =>
        h("li", {}, h("b", {}, node), " has version ", acked < 0 ? "none" : acked, " of ", h("a", { href: ofService(service) }, `${service.namespace}/${service.name}`), `, the newest is ${service.version}: ${behindMilliseconds} ms behind`)))),
    ];
  }
}
