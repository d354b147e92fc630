// What the views of one Service have in common: its name, the way between them, and the choice of a cluster.

import { ofService } from "./address.js";
import { h } from "./dom.js";

const VIEWS = [["", "Now"], ["timeline", "Timeline"], ["compare", "Compare"]];

/** The heading of a Service's view. `clusters` are those that can be chosen; "" stands for all of them. */
export function serviceHead({ namespace, name, view, cluster, clusters, parameters = {} }) {
  return h("header", { class: "service-head", key: "head" },
    h("p", { class: "back" }, h("a", { href: "#/" }, "All Services")),
    h("h1", {}, h("span", { class: "space" }, `${namespace}/`), name),
    h("nav", { class: "tabs", "aria-label": "This Service" }, VIEWS.map(([path, label]) => h("a", { href: ofService({ namespace, name }, path, { cluster }), "aria-current": view === path ? "page" : null }, label))),
    clusters.length > 1 && h("nav", { class: "choice", "aria-label": "Clusters" }, ["", ...clusters].map((each) =>
      h("a", { href: ofService({ namespace, name }, view, { ...parameters, cluster: each }), "aria-current": each === cluster ? "true" : null }, each || `All ${clusters.length} clusters`))),
  );
}
