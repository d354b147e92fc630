// The tables as the page holds them: for each Service of each cluster its rows, and the clusterset's sets. Fed by the
// stream; a snapshot replaces everything when its last part is there, a batch is applied whole.

import { partitionOf } from "./partition.js";

const EVENTS_KEPT = 50;

export class Store extends EventTarget {
  entries = new Map(); // CLUSTER/NAMESPACE/NAME -> Entry
  sets = new Map(); // NAMESPACE/NAME -> the clusterset's row
  clusters = new Map(); // name -> { changes, at, epoch, seq }
  stale = {}; // name -> { reason, since, partitions }, as the last heartbeat has it
  frontiers = {};
  at = ""; // how far everything is, by Kafka's clock
  partitions = 0; // 0: not known
  complete = false; // a whole snapshot has been read
  read = 0; // rows of the snapshot that is being read
  snapshotReason = "";
  recent = []; // times of the last batches
  #next = null;

  /** Take an event of the stream. */
  take(name, data) {
    if (name === "snapshot") this.#takeSnapshot(data);
    else if (name === "batch") this.#takeBatch(data);
    else if (name === "heartbeat") this.#takeHeartbeat(data);
  }

  /** Forget that the snapshot is being read: another begins. */
  restart() {
    this.#next = null;
  }

  #takeSnapshot({ reason, first, last, rows }) {
    if (first) {
      this.#next = { entries: new Map(), sets: new Map() };
      this.read = 0;
    }
    const { entries, sets } = this.#next;
    for (const row of rows) put(entries, sets, row, false);
    this.read += rows.length;
    if (!this.complete) [this.entries, this.sets] = [entries, sets];
    if (last) {
      [this.entries, this.sets, this.complete, this.snapshotReason, this.#next] = [entries, sets, true, reason, null];
      for (const { cluster } of entries.values()) this.#cluster(cluster);
    }
    this.#emit("reset", { reason, last });
  }

  #takeBatch({ rows, at, cluster, epoch, seq }) {
    if (at > this.at) this.at = at;
    Object.assign(this.#cluster(cluster), { at, epoch, seq, changes: this.#cluster(cluster).changes + rows.length });
    this.recent.push(Date.now());
    if (this.recent.length > EVENTS_KEPT) this.recent.shift();
    const changed = new Set();
    for (const row of rows) changed.add(put(this.entries, this.sets, row, true));
    this.#emit("change", { changed, rows });
  }

  #takeHeartbeat({ at, frontiers, stale }) {
    this.at = at;
    this.frontiers = frontiers;
    for (const name of Object.keys(frontiers)) this.#cluster(name);
    const before = Object.keys(this.stale);
    this.stale = stale;
    // What a snapshot showed as stale has hidden the row's own state: it has to be read again.
    const back = before.filter((name) => !(name in stale));
    if (back.length) this.#emit("back", { clusters: back });
    if (before.join() !== Object.keys(stale).join()) this.#emit("reset", { reason: "stale", last: true });
    this.#emit("heartbeat", {});
  }

  #cluster(name) {
    if (!this.clusters.has(name)) this.clusters.set(name, { changes: 0, at: "", epoch: 0, seq: 0 });
    return this.clusters.get(name);
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** An entry's state and reason as of now: `stale` while its cluster is silent. */
  stateOf(entry) {
    const row = entry.backend ?? entry.frontend ?? entry.routing;
    return this.shown(row);
  }

  /** A row's state and reason as of now. */
  shown(row) {
    const silence = this.stale[row.cluster];
    if (!silence || row.state === "unknown" || row.state === "deleted") return row;
    if (this.partitions && !silence.partitions.includes(partitionOf(row.namespace, row.name, this.partitions))) return row;
    return { state: "stale", reason: silence.reason };
  }

  /** The clusters of which all Services are stale, as its watcher wrote or as the server judges: { name: reason }. */
  staleClusters() {
    const reasons = new Map();
    for (const entry of this.entries.values()) {
      if (reasons.get(entry.cluster) === "") continue;
      const { state, reason } = this.stateOf(entry);
      reasons.set(entry.cluster, state === "stale" ? reason || "stale" : "");
    }
    return Object.fromEntries([...reasons].filter(([, reason]) => reason));
  }

  /** The entries of a Service, by cluster. */
  ofService(namespace, name) {
    const found = [];
    for (const cluster of [...this.clusters.keys()].sort()) {
      const entry = this.entries.get(`${cluster}/${namespace}/${name}`);
      if (entry) found.push(entry);
    }
    return found;
  }
}

/** A Service of one cluster. `changed` is when it last changed (by its watcher), `seen` when the page saw that. */
class Entry {
  frontend = null;
  backend = null;
  routing = null;
  seen = 0;
  text = ""; // what the filter looks at, made when it is needed
  fields = null;

  constructor(id, cluster, namespace, name) {
    Object.assign(this, { id, cluster, namespace, name, path: `${namespace}/${name}` });
  }

  get changed() {
    let newest = "";
    for (const row of [this.frontend, this.backend, this.routing]) if (row && row.asOf.at > newest) newest = row.asOf.at;
    return newest;
  }

  /** The versions of its rows: another one for each of their changes. */
  get stamp() {
    return [this.frontend, this.backend, this.routing].map((row) => row?.version ?? "").join("/");
  }
}

function put(entries, sets, row, isLive) {
  if (row.table === "clusterset") {
    const id = `${row.namespace}/${row.name}`;
    if (row.state === "deleted") sets.delete(id);
    else sets.set(id, slim(row));
    return id;
  }
  const id = `${row.cluster}/${row.namespace}/${row.name}`;
  let entry = entries.get(id);
  if (!entry) {
    if (row.state === "deleted") return id;
    entry = new Entry(id, row.cluster, row.namespace, row.name);
    entries.set(id, entry);
  }
  entry[row.table] = row.state === "deleted" ? null : slim(row);
  entry.text = "";
  entry.fields = null;
  if (isLive) entry.seen = Date.now();
  if (!entry.frontend && !entry.backend && !entry.routing) entries.delete(id);
  return id;
}

/** A row without what is not shown of it, its repeated texts held once: rows are what the page's memory is made of. */
function slim(row) {
  delete row.change;
  const { epoch, seq, at } = row.asOf;
  row.asOf = { epoch, seq, at };
  let previous = { ports: [], text: "[]" };
  for (const endpoint of row.endpoints ?? []) {
    for (const name of ["zone", "node", "slice", "family", "cluster"]) if (endpoint[name]) endpoint[name] = shared(endpoint[name]);
    if (endpoint.target) {
      endpoint.target.kind = shared(endpoint.target.kind);
      endpoint.target.namespace = shared(endpoint.target.namespace);
      delete endpoint.target.uid;
    }
    const text = JSON.stringify(endpoint.ports);
    if (text !== previous.text) previous = { ports: endpoint.ports, text };
    endpoint.ports = previous.ports;
  }
  return row;
}

const texts = new Map();

function shared(text) {
  const held = texts.get(text);
  if (held !== undefined) return held;
  if (texts.size > 100_000) texts.clear();
  texts.set(text, text);
  return text;
}
