// What differs between two states of a Service, as `facets diff` has it: fields, and endpoints port by port.

import { conditionOf } from "./states.js";

const STAMPS = new Set(["table", "cluster", "namespace", "name", "version", "previous", "asOf", "cause", "change", "endpoints", "exports", "origin"]);

/** The differences between two rows of one table and cluster (null: none): { sign (+, -, ~), what, before, after }.
 * Of endpoints `what` is their address and ports. */
export function differences(table, before, after) {
  if (!before || !after) return before === after ? [] : whole(table, before, after);
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => !STAMPS.has(name)).sort();
  const fields = names.filter((name) => !same(before[name], after[name])).map((what) => ({ sign: "~", what, before: before[what], after: after[what] }));
  return [...fields, ...endpointDifferences(before.endpoints ?? [], after.endpoints ?? [])];
}

function whole(table, before, after) {
  const sign = after ? "+" : "-";
  return [{ sign, what: table, before, after }, ...endpointDifferences(before?.endpoints ?? [], after?.endpoints ?? [])];
}

/** Endpoints that differ, those ports of an address together to which the same has happened. */
export function endpointDifferences(before, after) {
  const [old, now] = [byPort(before), byPort(after)];
  const alike = new Map();
  for (const key of [...new Set([...old.keys(), ...now.keys()])].sort()) {
    const [from, to] = [old.get(key), now.get(key)];
    if (from && to && same(from, to)) continue;
    const sign = from ? (to ? "~" : "-") : "+";
    const host = from?.address ?? to.address;
    const group = JSON.stringify([host, sign, from && { ...from, ports: 0 }, to && { ...to, ports: 0 }]);
    if (!alike.has(group)) alike.set(group, { sign, host, before: from ?? null, after: to ?? null, ports: [] });
    alike.get(group).ports.push(...(to ?? from).ports);
  }
  return [...alike.values()].map(({ sign, host, before: from, after: to, ports }) => ({
    sign,
    what: `${host.includes(":") ? `[${host}]` : host}:${ports.map(({ port }) => port ?? "any").sort().join(",")}`,
    before: from && { ...from, ports },
    after: to && { ...to, ports },
    isEndpoint: true,
  })).sort((one, other) => (one.what < other.what ? -1 : one.what > other.what ? 1 : 0));
}

function byPort(endpoints) {
  const found = new Map();
  for (const endpoint of endpoints) {
    for (const port of endpoint.ports.length ? endpoint.ports : [null]) {
      const key = JSON.stringify([endpoint.cluster ?? "", endpoint.family, endpoint.address, port?.name, port?.protocol, port?.port]);
      found.set(key, { ...endpoint, ports: port ? [port] : [] });
    }
  }
  return found;
}

/** Whether two values are the same; the order of an object's fields does not count. */
export function same(one, other) {
  if (one === other) return true;
  if (typeof one !== "object" || typeof other !== "object" || one === null || other === null) return false;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => name in other && same(one[name], other[name]));
}

/** What of an endpoint changed, in words. */
export function endpointChange({ sign, before, after }) {
  if (sign !== "~") return conditionOf(after ?? before);
  const [from, to] = [conditionOf(before), conditionOf(after)];
  const names = ["zone", "node", "slice", "hostname"].filter((name) => !same(before[name] ?? null, after[name] ?? null)).map((name) => `${name} ${before[name] ?? "none"} to ${after[name] ?? "none"}`);
  if (!same(before.target?.name, after.target?.name)) names.push(`Pod ${before.target?.name ?? "none"} to ${after.target?.name ?? "none"}`);
  if (!same(before.hints ?? null, after.hints ?? null)) names.push("topology hints");
  return [from === to ? "" : `${from} to ${to}`, ...names].filter(Boolean).join(", ") || "other fields";
}
