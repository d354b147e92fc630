// Endpoints drawn by cluster, zone and node, and as a table.

import { h } from "./dom.js";
import { CONDITIONS, conditionBadge, conditionOf, icon } from "./states.js";

const TILES_SHOWN = 200; // Of one node; what is beyond is a number.
const ROWS_SHOWN = 100;
const NAMED = 60; // So few endpoints are drawn with their addresses.
const NOWHERE = "no zone";

/** Groups in the order of their names: [[name, items], ...]. */
export function groupBy(items, nameOf) {
  const groups = new Map();
  for (const item of items) {
    const name = nameOf(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return [...groups].sort(([one], [other]) => (one < other ? -1 : 1));
}

/** Endpoints with their cluster: of these backend rows, in order. */
export function endpointsOf(backends) {
  return backends.flatMap((row) => row.endpoints.map((endpoint) => ({ ...endpoint, cluster: row.cluster })));
}

/** A map: a box for each zone, in it a line for each node, on it a tile for each endpoint. `marks` has what became of
 * an endpoint, by `keyOf`: added, updated, removed; `about` gives what stands at a cluster's heading. */
export function endpointMap(endpoints, marks = new Map(), about = () => null) {
  if (!endpoints.length) return h("p", { class: "none" }, "No endpoint.");
  const present = Object.keys(CONDITIONS).filter((condition) => endpoints.some((endpoint) => conditionOf(endpoint) === condition));
  const clusters = groupBy(endpoints, ({ cluster }) => cluster);
  const isNamed = endpoints.length <= NAMED;
  return [
    h("ul", { class: "legend", "aria-label": "Conditions" }, present.map((condition) => h("li", {}, icon(CONDITIONS[condition].shape), h("b", {}, condition), ` ${CONDITIONS[condition].text}`))),
    h("div", { class: "map" }, clusters.map(([cluster, own]) =>
      h("section", { class: "place", "aria-label": `Cluster ${cluster}` },
        h("h4", {}, cluster, h("small", {}, tally(own)), about(cluster)),
        h("div", { class: "zones" }, groupBy(own, ({ zone }) => zone ?? NOWHERE).map(([zone, inZone]) => zoneBox(zone, inZone, marks, isNamed))),
      ))),
  ];
}

function zoneBox(zone, endpoints, marks, isNamed) {
  return h("div", { class: "zone" },
    h("h5", {}, zone, h("small", {}, tally(endpoints))),
    h("ul", {}, groupBy(endpoints, ({ node }) => node ?? "no node").map(([node, onNode]) =>
      h("li", { class: "node" }, h("span", { class: "node-name", title: node }, node),
        h("span", { class: isNamed ? "tiles named" : "tiles", role: "img", "aria-label": tally(onNode) },
          onNode.slice(0, TILES_SHOWN).map((endpoint) => tile(endpoint, marks.get(keyOf(endpoint)), isNamed)),
          onNode.length > TILES_SHOWN && h("small", {}, `+ ${onNode.length - TILES_SHOWN}`))))),
  );
}

function tile(endpoint, mark = "", isNamed = false) {
  const condition = conditionOf(endpoint);
  const text = [endpoint.target?.name, endpoint.address, condition, mark].filter(Boolean).join(", ");
  return h("span", { class: `tile ${condition} ${mark}`, title: text }, icon(CONDITIONS[condition].shape), isNamed && h("span", { class: "mono" }, endpoint.address));
}

function tally(endpoints) {
  const ready = endpoints.filter((endpoint) => endpoint.ready).length;
  return `${ready} of ${endpoints.length} ready`;
}

/** What an endpoint is known by, among those of all clusters. */
export function keyOf({ cluster, family, address, ports }) {
  return [cluster, family, address, ...ports.map(({ name, protocol, port }) => `${name}/${protocol}/${port}`)].join(" ");
}

/** The endpoints as a table, the first hundred until more are asked for. */
export function endpointTable(endpoints, { caption, isAll = false, showAll, marks = new Map() }) {
  const shown = isAll ? endpoints : endpoints.slice(0, ROWS_SHOWN);
  const several = new Set(endpoints.map(({ cluster }) => cluster)).size > 1;
  const heads = ["Condition", "Address", "Ports", "Zone", "Node", "Pod", "Slice", ...(several ? ["Cluster"] : [])];
  return [
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", { class: "endpoints" },
      h("caption", {}, caption),
      h("thead", {}, h("tr", {}, heads.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, shown.map((endpoint) => line(endpoint, several, marks.get(keyOf(endpoint))))),
    )),
    shown.length < endpoints.length && h("button", { type: "button", class: "more", on: { click: showAll } }, `Show all ${endpoints.length}`),
  ];
}

const SIGNS = { added: "+", removed: "-", updated: "~" };

function line(endpoint, several, mark) {
  const { address, ports, zone, node, target, slice, cluster, hostname } = endpoint;
  return h("tr", { key: keyOf(endpoint), class: mark },
    h("td", {}, mark && h("span", { class: "sign" }, `${SIGNS[mark]} `, h("span", { class: "hidden" }, mark)), conditionBadge(conditionOf(endpoint))),
    h("td", { class: "mono" }, address, hostname && h("small", {}, hostname)),
    h("td", { class: "mono" }, portsText(ports)),
    h("td", {}, zone ?? "-"), h("td", {}, node ?? "-"),
    h("td", {}, target ? (target.kind === "Pod" ? target.name : `${target.kind} ${target.name}`) : "-"),
    h("td", {}, slice),
    several && h("td", {}, cluster),
  );
}

/** Ports as name:number/protocol; TCP goes without saying. */
export function portsText(ports) {
  if (!ports.length) return "-";
  return ports.map(({ name, port, protocol }) => `${name ? `${name}:` : ""}${port ?? "any"}${protocol === "TCP" ? "" : `/${protocol}`}`).join(" ");
}
