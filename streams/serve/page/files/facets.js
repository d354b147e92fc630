// The facets of a Service as they are shown: its frontend, its decision for gateways and the mesh, and what exports say.

import { h } from "./dom.js";
import { portsText } from "./endpoints.js";
import { DECISION_MEANS, REASONS, decisionText, icon, stateBadge } from "./states.js";
import { ago, clock } from "./time.js";

const facts = (pairs) => h("dl", {}, pairs.filter(([, content]) => content !== null && content !== "" && content !== undefined && content !== false)
  .map(([name, content]) => h("div", {}, h("dt", {}, name), h("dd", {}, content))));

const mono = (text) => h("span", { class: "mono" }, text);

/** A frontend row: where the Service is reached. */
export function frontendCard(row, shown) {
  return h("section", { class: "card", key: `frontend ${row.cluster}` },
    h("h4", {}, row.cluster, stateBadge(shown.state, shown.reason)),
    facts([
      ["DNS name", mono(row.dnsName)],
      ["Cluster IP", row.clusterIPs.length ? mono(row.clusterIPs.join(", ")) : row.headless ? "none: headless" : "none"],
      ["External name", row.externalName && mono(row.externalName)],
      ["Type", row.type],
      ["Ports", row.ports.length ? h("ul", { class: "plain" }, row.ports.map((port) => h("li", { class: "mono" }, `${port.name ? `${port.name} ` : ""}${port.port}/${port.protocol}`, h("span", { class: "to" }, ` to ${port.targetPort}`)))) : "none"],
      ["Not served", row.unserved?.length > 0 && row.unserved.map(({ port, protocol }) => `${port}/${protocol}`).join(", ")],
      ["Selector", row.selector && mono(Object.entries(row.selector).map(([name, value]) => `${name}=${value}`).join(", "))],
      ["Session affinity", row.sessionAffinity !== "None" && `${row.sessionAffinity}${row.sessionAffinityTimeoutSeconds ? ` for ${row.sessionAffinityTimeoutSeconds} s` : ""}`],
      ["Distribution", row.trafficDistribution],
      ["Internal traffic", row.internalTrafficPolicy === "Local" && "to the own node only"],
      ["Not ready ones", row.publishNotReadyAddresses && "are published"],
    ]),
    provenance(row, shown),
  );
}

/** What made a row: version, time, objects; and what is wrong with it. */
export function provenance(row, shown) {
  return [
    shown.reason && h("p", { class: "reason" }, icon(shown.state === "ready" ? "unknown" : shown.state), " ", shown.reason),
    row.rejected?.length > 0 && h("ul", { class: "rejected" }, row.rejected.map(({ kind, name, message }) => h("li", {}, icon("stale"), ` ${kind} ${name} could not be read: ${message}`))),
    h("p", { class: "from" }, `version ${row.version}, `, h("time", { datetime: row.asOf.at, title: row.asOf.at }, `${clock(row.asOf.at)} UTC`), `, ${ago(row.asOf.at)} ago`, row.cause.length > 0 && [", by ", causes(row)]),
  ];
}

/** The objects whose change made a row. */
export function causes(row) {
  return row.cause.map(({ kind, name, namespace, resourceVersion, trigger }, i) => [
    i > 0 && ", ",
    h("span", { class: "object", title: trigger ? `what led to it happened at ${trigger}` : null }, `${kind} ${namespace ? `${namespace}/` : ""}${name}${resourceVersion ? `@${resourceVersion}` : ""}`),
  ]);
}

/** A routing row: the decision for each direction, why, and the objects behind it. */
export function routingCard(row, shown, address) {
  return h("section", { class: "card", key: `routing ${row.cluster}` },
    h("h4", {}, row.cluster),
    h("div", { class: "directions" },
      direction("Through gateways", row.gateway, address),
      direction("In the mesh", row.mesh, address),
      Object.entries(row.mesh.consumers ?? {}).map(([namespace, own]) => direction(`In the mesh, from namespace ${namespace}`, own, address)),
      row.clusterset && [direction("For the clusterset's name, through gateways", row.clusterset.gateway, address), direction("For the clusterset's name, in the mesh", row.clusterset.mesh, address)],
    ),
    row.service?.operator?.invalid && h("p", { class: "reason" }, icon("stale"), ` ${row.service.operator.invalid}`),
    row.routes.length > 0 && h("details", { open: row.routes.length < 4 }, h("summary", {}, `${row.routes.length} routes name it`), h("ul", { class: "plain" }, row.routes.map(routeLine))),
    row.policies.length > 0 && h("details", {}, h("summary", {}, `${row.policies.length} policies target it`), h("ul", { class: "plain" }, row.policies.map(({ kind, namespace, name, reason }) => h("li", {}, `${kind} ${namespace}/${name}`, reason && `: ${reason}`)))),
    row.backendTLS?.length > 0 && h("details", { open: true }, h("summary", {}, "What routers verify of the endpoints (TLS)"), h("ul", { class: "plain" }, row.backendTLS.map((entry) => h("li", {}, `BackendTLSPolicy ${entry.namespace}/${entry.name}: ${entry.validation.hostname}${entry.sectionName ? `, port ${entry.sectionName}` : ""}`, !entry.accepted && ` (no effect: ${entry.reason})`)))),
    provenance(row, shown),
  );
}

function direction(title, { decision, reason, because, sessionPersistence, rules, sessionConflicts = [] }) {
  return h("div", { class: "direction" },
    h("h5", {}, title),
    h("p", { class: `verdict ${decision}` }, icon(decision === "endpoint" ? "filled" : decision === "service" ? "ready" : "empty"), decisionText(decision)),
    h("p", {}, `${DECISION_MEANS[decision] ?? ""}: `, h("b", {}, reason), REASONS[reason] && `, ${REASONS[reason]}`, "."),
    because.length > 0 && h("p", {}, "Because of ", because.map((object, i) => [i > 0 && ", ", h("span", { class: "object" }, objectText(object))])),
    sessionPersistence && h("p", {}, `Sessions by ${sessionPersistence.type}${sessionPersistence.sessionName ? ` ${sessionPersistence.sessionName}` : ""}`),
    sessionConflicts.length > 0 && h("p", {}, icon("stale"), ` Without effect: ${sessionConflicts.map(objectText).join(", ")}`),
    rules.length > 0 && h("details", { open: rules.length < 4 }, h("summary", {}, `${rules.length} rules, in the order in which they are tried`), h("ol", {}, rules.map((rule) => h("li", {},
      h("span", { class: "object" }, `${objectText(rule.route)} rule ${rule.ruleName ?? rule.rule}`), `: ${decisionText(rule.decision)} (${rule.reason}), weight ${rule.weight}${rule.totalWeight ? ` of ${rule.totalWeight}` : ""}${rule.role && rule.role !== "backend" ? `, ${rule.role}` : ""}`)))),
  );
}

const objectText = ({ kind, namespace, name }) => `${kind} ${namespace ? `${namespace}/` : ""}${name}`;

function routeLine(route) {
  return h("li", {}, h("span", { class: "object" }, objectText(route)), h("ul", { class: "plain" }, route.parents.map((parent) =>
    h("li", {}, icon(parent.attached ? "ready" : "empty"), parent.attached ? " attached to " : " not attached to ", objectText(parent), parent.reason && `: ${parent.reason}`, parent.message && `, ${parent.message}`))));
}

/** What clusters export together (KEP-1645). */
export function setCard(row) {
  return h("section", { class: "card set", key: "set" },
    h("h4", {}, "Exported together", stateBadge(row.state, row.reason)),
    facts([
      ["DNS name", mono(row.dnsName)],
      ["Type", row.type ?? "none: no export is valid"],
      ["Ports", portsText(row.ports)],
    ]),
    h("ul", { class: "plain exports" }, row.exports.map((each) => h("li", {}, icon(each.counted ? "ready" : "empty"), ` ${each.cluster}: `,
      each.counted ? "its endpoints count" : `its endpoints do not count (${each.valid === "Valid" ? each.unavailable?.action ?? each.state : each.valid})`,
      each.unavailable && `; not heard of since ${clock(each.unavailable.since)} UTC: ${each.unavailable.action}, ${each.unavailable.remaining} of ${each.unavailable.endpoints} remain`,
      each.conflict && each.conflict !== "NoConflicts" && `; ${each.conflict}`))),
    row.conflicts.length > 0 && h("ul", { class: "plain" }, row.conflicts.map(({ reason, message }) => h("li", {}, icon("stale"), ` ${reason}: ${message}`))),
    provenance(row, row),
  );
}
