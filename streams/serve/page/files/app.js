// The page: which view is shown, by the address; the state of the connection; keys that hold everywhere.

import { format, parse } from "./address.js";
import { get } from "./api.js";
import { Changes } from "./changes.js";
import { ClustersView } from "./clusters_view.js";
import { CompareView } from "./compare_view.js";
import { Connection } from "./connection.js";
import { h, render } from "./dom.js";
import { ListView } from "./list_view.js";
import { RoutersView } from "./routers_view.js";
import { ServiceView } from "./service_view.js";
import { Store } from "./store.js";
import { TimelineView } from "./timeline_view.js";

const HIDDEN_MILLISECONDS = 60_000; // After so long a page that nobody looks at leaves the stream.
const FOLDED = ["frontend", "backend", "routing", "clusterset"];
const NAVIGATION = [
  ["list", "", "Services"],
  ["routers", "routers", "Routers"],
  ["clusters", "clusters", "Clusters"],
];

const store = new Store();
let tables = FOLDED;
const changes = new Changes(
  () => `v1/changes?${tables.map((table) => `table=${table}`).join("&")}`,
  (name, data) => store.take(name, data),
  (status) => {
    // With --cluster there is no clusterset.
    if (status.problem.includes("the clusterset is not served")) tables = FOLDED.slice(0, 3);
    if (status.state === "connecting") store.restart();
    connection.show(status);
  },
);
const connection = new Connection(store, changes);
const views = {
  list: new ListView(store),
  service: new ServiceView(store),
  timeline: new TimelineView(store),
  compare: new CompareView(store),
  routers: new RoutersView(store),
  clusters: new ClustersView(store),
};

const main = document.getElementById("main");
let current = null; // { view, address, close }

function show() {
  const address = parse(location.hash);
  const view = views[address.view];
  const sameView = current && current.view === view && current.address.namespace === address.namespace && current.address.name === address.name;
  if (view && sameView) {
    current.address = address;
    view.move(address);
  } else {
    current?.close?.();
    const host = h("div", { class: `view of-${address.view}` });
    main.replaceChildren(host);
    main.scrollTop = 0;
    if (view) current = { view, address, close: view.open(host, address) };
    else {
      current = null;
      render(host, h("section", { class: "unknown" }, h("h1", {}, "There is no such view"), h("p", {}, h("a", { href: "#/" }, "All Services"))));
    }
    // Not at the start: a reader begins at the top then.
    if (document.activeElement !== document.body) main.focus({ preventScroll: true });
  }
  showFrame(address.view);
}

function showFrame(name) {
  document.title = `${current?.view.title() ?? "Not found"} - Service Facets`;
  const isIn = (view) => view === name || (view === "list" && ["service", "timeline", "compare"].includes(name));
  render(document.getElementById("views"), NAVIGATION.map(([view, path, label]) => h("a", { href: format(path), "aria-current": isIn(view) && (view === name ? "page" : "true") }, label)));
  const command = current?.view.command() ?? "";
  render(document.getElementById("command"), command && [
    h("span", { class: "prompt" }, "The same in a terminal"),
    h("code", { id: "command-text", tabindex: "0" }, command),
    h("button", { type: "button", id: "copy", on: { click: copy } }, "Copy"),
  ]);
}

async function copy({ target }) {
  const code = document.getElementById("command-text");
  getSelection().selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(code.textContent);
    target.textContent = "Copied";
  } catch {
    target.textContent = "Selected";
  }
  setTimeout(() => (target.textContent = "Copy"), 1500);
}

// ---- events ------------------------------------------------------------------------------------------------

addEventListener("hashchange", show);
main.addEventListener("command", () => showFrame(parse(location.hash).view));
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "/") {
    event.preventDefault();
    if (current?.view !== views.list) {
      location.hash = "#/";
      show();
    }
    views.list.focusFilter();
  } else if (event.key === "Escape" && current?.view !== views.list) location.hash = "#/";
});

let hidden = 0;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hidden);
  if (document.visibilityState === "visible") changes.resume();
  else hidden = setTimeout(() => changes.pause(), HIDDEN_MILLISECONDS);
});

store.addEventListener("back", () => changes.startOver("a cluster is heard of again"));
store.addEventListener("reset", ({ detail }) => detail.last && learnPartitions());

/** How many partitions there are says which of a silent cluster's Services are concerned. */
async function learnPartitions() {
  if (store.partitions || !Object.keys(store.stale).length) return;
  const { frontiers } = await get("v1/propagation", { namespace: "default", service: "kubernetes" }).catch(() => ({ frontiers: [] }));
  store.partitions = Math.max(0, ...frontiers.map(({ partition }) => partition + 1));
}

setInterval(() => {
  connection.tick();
  current?.view.tick?.();
}, 1000);

changes.start();
show();
// For tests and the curious.
globalThis.facets = { store, changes };
