// How states, conditions and reasons look and what they are called: always by a shape and a word, never by colour alone.

import { h, svg } from "./dom.js";

const SHAPES = {
  ready: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm3.6 4.9-4.3 4.9L4.4 8.5l1.1-1.1 1.7 1.7 3.3-3.7Z",
  empty: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13Zm0 2a4.5 4.5 0 1 1 0 9 4.5 4.5 0 0 1 0-9Z",
  unknown: "M8 .5 15.5 8 8 15.5.5 8Zm-.9 9.7v1.7h1.8v-1.7ZM5.7 6h1.6c0-.6.3-.9.8-.9s.8.3.8.7c0 .9-1.7.9-1.7 3h1.6c0-1.300 1.800-1.500 1.800-3.200C10.600 4.300 9.600 3.600 8.100 3.600 6.600 3.600 5.700 4.500 5.700 6Z",
  stale: "M8 1 15.5 14.5H.5Zm-.9 4.700.200 4.600h1.400l.200-4.600Zm0 5.600v1.700h1.800v-1.700Z",
  deleted: "M3.200 1.800 8 6.600l4.800-4.800 1.400 1.400L9.400 8l4.800 4.800-1.400 1.400L8 9.400l-4.800 4.800-1.400-1.400L6.600 8 1.800 3.200Z",
  draining: "M6.500 1h3v6.500h4L8 15 2.500 7.500h4Z",
  serving: "M2 2h12v12H2Zm2 2v4h8V4Z",
  terminating: "M2 2h12v12H2Zm2 2v8h8V4Zm1 1h6L5 11Z",
  down: "M2 2h12v12H2Zm2 2v8h8V4Z",
  filled: "M2 2h12v12H2Z",
};

const STATES = {
  ready: "The endpoint set is known, and has endpoints",
  empty: "The endpoint set is known to be empty",
  unknown: "The endpoint set is not known",
  stale: "The cluster is not heard of: this is what was last known",
  deleted: "The Service is deleted",
};

export const CONDITIONS = {
  ready: { word: "ready", text: "gets requests", shape: "filled" },
  draining: { word: "draining", text: "terminates, but still serves", shape: "draining" },
  serving: { word: "serving", text: "serves, but is not ready", shape: "serving" },
  terminating: { word: "terminating", text: "terminates, and does not serve", shape: "terminating" },
  down: { word: "down", text: "does not serve", shape: "down" },
};

/** A small picture, which the word beside it explains. */
export function icon(shape) {
  return svg("svg", { class: `icon ${shape}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: SHAPES[shape] ?? SHAPES.unknown, "fill-rule": "evenodd" }));
}

/** A row's state, as a picture and a word. */
export function stateBadge(state, reason = "") {
  return h("span", { class: `state ${state}`, title: reason || STATES[state] || state }, icon(state in STATES ? state : "unknown"), state);
}

/** An endpoint's conditions as one word, as `facets get` has it. */
export function conditionOf(endpoint) {
  if (endpoint.ready) return "ready";
  if (endpoint.serving) return endpoint.terminating ? "draining" : "serving";
  return endpoint.terminating ? "terminating" : "down";
}

/** An endpoint's condition, as a picture and a word. */
export function conditionBadge(condition) {
  return h("span", { class: `condition ${condition}`, title: CONDITIONS[condition].text }, icon(CONDITIONS[condition].shape), condition);
}

const DECISIONS = {
  endpoint: "endpoint routing",
  service: "Service routing",
  dns: "DNS",
  none: "no routing",
};

/** A routing decision in words. */
export function decisionText(decision) {
  return DECISIONS[decision] ?? decision;
}

/** What a decision means for requests. */
export const DECISION_MEANS = {
  endpoint: "requests go to endpoints that the router chooses",
  service: "requests go to the cluster IP; the network chooses the endpoint",
  dns: "requests go to the external name",
  none: "there is nothing that requests can go to",
};

/** Why, in words: the rules of the routing table, in their order. */
export const REASONS = {
  ServiceNotFound: "a route or policy names a Service that is not there",
  ServiceUnreadable: "the Service is there, but could never be read",
  ExternalName: "the Service is an ExternalName",
  Headless: "the Service is headless",
  NoClusterIP: "the Service has no cluster IP",
  NoClusterSetIP: "the clusterset's Service has no IP of its own",
  SessionPersistence: "a rule of an attached route asks for session persistence",
  BackendTrafficPolicy: "an XBackendTrafficPolicy asks for session persistence",
  SessionAffinity: "the Service has session affinity ClientIP",
  ServiceAnnotation: "an annotation of the Service says so",
  NamespaceAnnotation: "an annotation of its Namespace says so",
  ClusterDefault: "it is the cluster's default",
  Default: "nothing asks for anything else",
  RefNotPermitted: "no ReferenceGrant permits it",
  GrantUnreadable: "a ReferenceGrant could not be read",
  RuleShadowed: "other rules take all of its requests first",
  InvalidKind: "the reference is of a kind that has no meaning here",
};
