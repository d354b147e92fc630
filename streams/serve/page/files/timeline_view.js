// A Service's timeline: pick a moment, and see what changed then, which object did it, and the set as it was.

import { adjust, ofService } from "./address.js";
import { historyCommand, pastCommand } from "./command.js";
import { differences } from "./difference.js";
import { differenceList } from "./difference_list.js";
import { h, render } from "./dom.js";
import { endpointMap, endpointTable, endpointsOf, keyOf } from "./endpoints.js";
import { causes, frontendCard, routingCard } from "./facets.js";
import { meter } from "./list_view.js";
import { Past } from "./past.js";
import { RoutersThen } from "./routers_then.js";
import { serviceHead } from "./service_frame.js";
import { stateBadge } from "./states.js";
import { ago, clock, iso, readTime } from "./time.js";
import { track, trackLegend } from "./track.js";

const SPANS = { all: ["all", Infinity], "1h": ["1 hour", 3_600_000], "15m": ["15 minutes", 900_000], "5m": ["5 minutes", 300_000], "1m": ["1 minute", 60_000] };

export class TimelineView {
  #store;
  #host = null;
  #address = null;
  #past = null;
  #error = null;
  #at = ""; // the moment that is looked at; "": the newest
  #span = "all";
  #isAll = false;
  #abort = null;
  #frame = 0;
  #reading = 0; // how much of the past is being read
  #routers = null;

  constructor(store) {
    this.#store = store;
  }

  title() {
    return `Timeline of ${this.#address.namespace}/${this.#address.name}`;
  }

  command() {
    const service = { ...this.#address, cluster: this.#cluster };
    return this.#at ? pastCommand(service, this.#at) : historyCommand(service, {});
  }

  get #cluster() {
    return this.#address.parameters.get("cluster") ?? "";
  }

  open(host, address) {
    [this.#host, this.#address, this.#past, this.#error, this.#isAll] = [host, address, new Past(address), null, false];
    this.#abort = new AbortController();
    this.#routers = new RoutersThen(address, this.#abort.signal, () => this.#schedule());
    this.#take(address);
    this.#draw();
    this.#read(async (signal) => {
      await this.#past.read(signal);
      if (this.#at) await this.#past.readBack(this.#at, signal);
    });
    const change = ({ detail }) => this.#follow(detail.rows);
    this.#store.addEventListener("change", change);
    return () => {
      this.#store.removeEventListener("change", change);
      this.#abort.abort();
      cancelAnimationFrame(this.#frame);
      this.#frame = 0;
    };
  }

  move(address) {
    this.#address = address;
    this.#look();
  }

  /** Look at the moment in the address, and read what is missing for it. */
  #look() {
    this.#take(this.#address);
    this.#draw();
    if (this.#at && this.#past.isRead && !this.#past.reaches(this.#at)) this.#read((signal) => this.#past.readBack(this.#at, signal));
  }

  #take({ parameters }) {
    const at = parameters.get("at") ?? "";
    const time = at ? readTime(at) : null;
    this.#at = time === null ? "" : iso(time);
    this.#span = parameters.get("span") in SPANS ? parameters.get("span") : "all";
  }

  #schedule() {
    if (!this.#frame) this.#frame = requestAnimationFrame(() => this.#draw());
  }

  async #read(ask) {
    const { signal } = this.#abort;
    this.#reading += 1;
    try {
      await ask(signal);
      this.#error = null;
    } catch (error) {
      if (signal.aborted) return;
      this.#error = error;
    } finally {
      this.#reading -= 1;
    }
    this.#draw();
  }

  #follow(rows) {
    const { namespace, name } = this.#address;
    const own = rows.filter((row) => row.namespace === namespace && row.name === name);
    if (!own.length || !this.#past.isRead) return;
    for (const row of own) this.#past.add(row);
    this.#schedule();
  }

  // ---- what is shown --------------------------------------------------------------------------------------

  get #rows() {
    return this.#past.rows.filter((row) => !this.#cluster || row.cluster === this.#cluster);
  }

  get #moments() {
    return [...new Set(this.#rows.map((row) => row.asOf.at))].sort();
  }

  #draw() {
    this.#frame = 0;
    const { namespace, name } = this.#address;
    const clusters = [...new Set([...this.#past.rows.map(({ cluster }) => cluster), ...this.#store.ofService(namespace, name).map(({ cluster }) => cluster)])].filter(Boolean).sort();
    render(this.#host, serviceHead({ namespace, name, view: "timeline", cluster: this.#cluster, clusters, parameters: { at: this.#at } }), this.#content());
  }

  #content() {
    if (this.#error) return h("p", { class: "wait", key: "error" }, this.#error.status === 404 && /openapi/.test(this.#error.message) ? "This server has no history: it is of an older version." : `The past is not known: ${this.#error.message}`);
    if (!this.#past.isRead) return h("p", { class: "wait", key: "wait" }, "Reading the past");
    const rows = this.#rows;
    const moments = this.#moments;
    if (!moments.length) return h("p", { class: "wait", key: "none" }, "Nothing is known of it in the journal.", this.#past.remarks.map((remark) => ` ${remark}`));
    const at = this.#at || moments.at(-1);
    // The last moment up to then; before the first there is none.
    const place = moments.findLastIndex((moment) => moment <= at);
    return [this.#scrubber(rows, moments, place, at), this.#moment(moments, place, at)];
  }

  #scrubber(rows, moments, place, at) {
    const end = Math.max(Date.parse(moments.at(-1)), Date.parse(at));
    const first = Date.parse(moments[0]);
    const begin = Math.max(Math.min(first, Date.parse(at)), end - SPANS[this.#span][1]);
    const margin = Math.max(1000, (end - begin) * 0.02);
    const step = (to) => () => (to <= 0 ? this.#first(moments) : this.#choose(moments[Math.min(moments.length - 1, to)]));
    const button = (label, text, to, isOff) => h("button", { type: "button", "aria-label": label, title: label, disabled: isOff, on: { click: step(to) } }, text);
    return h("section", { class: "scrubber", key: "scrubber", "aria-label": "Timeline" },
      h("div", { class: "tools" },
        button("First change", "|<", 0, place <= 0),
        button("Change before", "<", place - 1, place <= 0),
        h("label", { class: "range" }, h("span", { class: "hidden" }, "Change"),
          h("input", { type: "range", id: "scrub", min: 0, max: moments.length - 1, step: 1, value: String(Math.max(0, place)), "aria-valuetext": place < 0 ? "before the first change" : `${clock(moments[place])} UTC, change ${place + 1} of ${moments.length}`, on: { input: ({ target }) => step(Number(target.value))() } })),
        button("Change after", ">", place + 1, place >= moments.length - 1),
        button("Newest change", ">|", moments.length - 1, place >= moments.length - 1),
        h("label", { class: "moment" }, h("span", {}, "At (UTC) "), h("input", { type: "text", id: "at", value: clock(at), autocomplete: "off", spellcheck: "false", placeholder: "14:03, 15m", title: "A time, or how long ago: 14:03:12, 15m", on: { change: ({ target }) => this.#type(target) } })),
        h("label", { class: "moment" }, h("span", {}, "Show "), h("select", { id: "span", value: this.#span, on: { change: ({ target }) => this.#zoom(target.value) } }, Object.entries(SPANS).map(([name, [label]]) => h("option", { value: name, selected: name === this.#span }, label)))),
      ),
      track({ rows: rows.filter((row) => Date.parse(row.asOf.at) >= begin - margin), begin: begin - margin, end: end + margin, chosen: Date.parse(at), pick: (time) => this.#near(moments, time) }),
      h("div", { class: "under" }, trackLegend(new Set(rows.map(({ table }) => table))),
        this.#past.more && h("button", { type: "button", on: { click: () => this.#read((signal) => this.#past.readOlder(signal)) } }, "Read older ones"),
        this.#past.remarks.map((remark) => h("p", { class: "hint" }, remark))),
    );
  }

  #moment(moments, place, at) {
    const came = place < 0 ? [] : this.#past.cameAt(moments[place]).filter((row) => !this.#cluster || row.cluster === this.#cluster);
    const state = this.#past.at(at).filter((row) => !this.#cluster || row.cluster === this.#cluster);
    const of = (table) => state.filter((row) => row.table === table);
    const endpoints = endpointsOf(of("backend"));
    const marks = marksOf(came);
    const service = this.#address;
    return h("div", { class: "moment-view", key: "moment" },
      h("section", { class: "side", "aria-labelledby": "changed" },
        h("h2", { id: "changed" }, place < 0 ? this.#before(at) : h("time", { datetime: moments[place] }, `${clock(moments[place])} UTC`), place >= 0 && h("small", {}, `${ago(moments[place])} ago, change ${place + 1} of ${moments.length}`)),
        h("div", { "aria-live": "polite", class: "came" }, came.map((row) => this.#change(row))),
        place > 0 && h("p", {}, h("a", { href: ofService(service, "compare", { cluster: this.#cluster, from: moments[place - 1], to: moments[place] }) }, "Compare with the moment before")),
        place >= 0 && place < moments.length - 1 && h("p", {}, h("a", { href: ofService(service, "compare", { cluster: this.#cluster, from: moments[place], to: moments.at(-1) }) }, "Compare with the newest")),
        this.#routers.draw(place < moments.length - 1 ? iso(Date.parse(moments[place + 1]) - 1) : ""),
      ),
      h("section", { class: "side", "aria-labelledby": "was" },
        h("h2", { id: "was" }, "As it was", h("small", {}, place === moments.length - 1 && !this.#at ? "and is now" : `at ${clock(at)} UTC`), h("span", { class: "total" }, meter(endpoints))),
        state.length === 0 && h("p", { class: "none" }, "There was no such Service."),
        h("div", { class: "card" }, endpointMap(endpoints, marks)),
        of("backend").map((row) => h("p", { key: `state ${row.cluster}` }, h("b", {}, row.cluster), " ", stateBadge(row.state, row.reason), row.reason && ` ${row.reason}`)),
        endpoints.length > 0 && endpointTable(endpoints, { caption: `Endpoints at ${clock(at)} UTC`, isAll: this.#isAll, showAll: () => { this.#isAll = true; this.#draw(); }, marks }),
        of("frontend").length > 0 && h("details", {}, h("summary", {}, "Frontend"), of("frontend").map((row) => frontendCard(row, row))),
        of("routing").length > 0 && h("details", {}, h("summary", {}, "Routing decision"), of("routing").map((row) => routingCard(row, row))),
      ),
    );
  }

  #before(at) {
    if (this.#past.reaches(at)) return "Before the first change";
    return this.#reading ? "Reading the past" : "Before the changes that are held here";
  }

  #change(row) {
    const before = this.#past.before(row);
    const after = row.state === "deleted" ? null : row;
    return h("article", { class: "change", key: `${row.table} ${row.cluster} ${row.version}` },
      h("h3", {}, row.cluster || "exported together", h("small", {}, row.table), stateBadge(row.state, row.reason)),
      h("p", { class: "from" }, `version ${row.version}`, row.cause.length ? [", by ", causes(row)] : ", by the cluster itself, or another fold version"),
      differenceList(differences(row.table, before, after)),
    );
  }

  // ---- what a person does ---------------------------------------------------------------------------------

  #choose(moment) {
    this.#go({ at: moment });
  }

  /** To the first change: that is known when all are read. */
  async #first(moments) {
    if (this.#past.more) {
      await this.#read((signal) => this.#past.readBack("", signal));
      moments = this.#moments;
    }
    if (!this.#abort.signal.aborted) this.#choose(moments[0]);
  }

  #near(moments, time) {
    const nearest = moments.reduce((best, moment) => (Math.abs(Date.parse(moment) - time) < Math.abs(Date.parse(best) - time) ? moment : best));
    this.#choose(nearest);
  }

  #type(input) {
    const time = readTime(input.value);
    input.setCustomValidity(time === null ? "A time such as 14:03:12 or 2026-11-24T12:00:00Z, or how long ago: 15m" : time > Date.now() ? "That time is still to come" : "");
    if (input.reportValidity()) this.#go({ at: iso(time) });
  }

  #zoom(span) {
    this.#go({ span: span === "all" ? "" : span });
  }

  #go(parameters) {
    adjust(parameters);
    for (const [name, value] of Object.entries(parameters)) this.#address.parameters.set(name, value);
    this.#look();
    this.#host.dispatchEvent(new CustomEvent("command", { bubbles: true }));
  }
}

/** What became of endpoints in these rows, by `keyOf`. */
function marksOf(rows) {
  const marks = new Map();
  for (const row of rows) {
    if (row.table !== "backend" || !row.change) continue;
    for (const [mark, endpoints] of Object.entries(row.change)) for (const endpoint of endpoints) marks.set(keyOf({ ...endpoint, cluster: row.cluster }), mark);
  }
  return marks;
}
