// The filter of the list: words that all have to be found, anywhere or (`zone:east-1a`) in one field; `-` before a word
// means that it must not be found.

import { conditionOf } from "./states.js";

const FIELDS = {
  name: "name", service: "name",
  ns: "namespace", namespace: "namespace",
  cluster: "cluster",
  address: "address", ip: "address",
  pod: "pod",
  node: "node",
  zone: "zone",
  state: "state",
  decision: "decision", routing: "decision",
  reason: "reason",
  type: "type",
};

export const FIELD_NAMES = ["name", "ns", "cluster", "address", "pod", "node", "zone", "state", "decision", "reason", "type"];

/** The words of a filter: { field ("": any), value (in lower case), isNot }. */
export function parseFilter(text) {
  return text.toLowerCase().split(/\s+/).filter(Boolean).map(parseWord).filter((term) => term.value);
}

function parseWord(word) {
  const isNot = word.length > 1 && word.startsWith("-");
  const rest = isNot ? word.slice(1) : word;
  const colon = rest.indexOf(":");
  const field = FIELDS[rest.slice(0, Math.max(0, colon))] ?? "";
  return { field, value: field ? rest.slice(colon + 1) : rest, isNot };
}

/** Whether an entry passes; `state` and `reason` are those that it is shown with. */
export function passes(terms, entry, { state, reason }) {
  return terms.every(({ field, value, isNot }) => isNot !== finds(field, value, entry, state, reason));
}

function finds(field, value, entry, state, reason) {
  if (field === "state") return state.startsWith(value) || fieldsOf(entry).state.includes(`\n${value}`);
  if (field === "reason") return reason.toLowerCase().includes(value) || fieldsOf(entry).reason.includes(value);
  if (field === "cluster") return entry.cluster.toLowerCase() === value;
  if (field === "namespace") return entry.namespace === value;
  if (field) return fieldsOf(entry)[field].includes(value);
  return state.startsWith(value) || textOf(entry).includes(value);
}

/** All that can be searched, as one text in lower case. */
function textOf(entry) {
  if (!entry.text) entry.text = [entry.path, entry.cluster, ...Object.values(fieldsOf(entry))].join("\n").toLowerCase();
  return entry.text;
}

function fieldsOf(entry) {
  return (entry.fields ??= makeFields(entry));
}

function makeFields({ name, frontend, backend, routing }) {
  const endpoints = backend?.endpoints ?? [];
  const distinct = (values) => [...new Set(values.filter(Boolean))].join("\n").toLowerCase();
  const directions = routing ? [routing.gateway, routing.mesh, ...Object.values(routing.mesh.consumers ?? {})] : [];
  return {
    name,
    address: distinct([...(frontend?.clusterIPs ?? []), frontend?.dnsName, frontend?.externalName, ...endpoints.map(({ address }) => address)]),
    pod: distinct(endpoints.map(({ target }) => target?.name)),
    node: distinct(endpoints.map(({ node }) => node)),
    zone: distinct(endpoints.map(({ zone }) => zone)),
    state: `\n${distinct(endpoints.map(conditionOf).filter((condition) => condition !== "ready"))}`,
    decision: distinct(directions.map(({ decision }) => decision)),
    reason: distinct([backend?.reason, frontend?.reason, ...directions.map(({ reason }) => reason)]),
    type: (frontend?.type ?? "").toLowerCase(),
  };
}

/** What the rows of a list are sorted by, by the name that an address has it under. */
export const ORDERS = {
  name: { label: "name", compare: (one, other) => compareText(one.path, other.path) || compareText(one.cluster, other.cluster) },
  changed: { label: "last change", compare: (one, other) => compareText(other.changed, one.changed) || compareText(one.id, other.id) },
  endpoints: { label: "most endpoints", compare: (one, other) => count(other) - count(one) || compareText(one.path, other.path) || compareText(one.id, other.id) },
  ready: { label: "fewest ready", compare: (one, other) => share(one) - share(other) || compareText(one.path, other.path) || compareText(one.id, other.id) },
};

function compareText(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

function count(entry) {
  return entry.backend?.endpoints.length ?? 0;
}

function share(entry) {
  const endpoints = entry.backend?.endpoints ?? [];
  return endpoints.length ? endpoints.filter(({ ready }) => ready).length / endpoints.length : 2;
}
