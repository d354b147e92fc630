// All Services of all clusters: a list of which only the rows in sight are elements, so that 10,000 cost what 50 do.

import { adjust, ofService } from "./address.js";
import { listCommand } from "./command.js";
import { h, render } from "./dom.js";
import { FIELD_NAMES, ORDERS, parseFilter, passes } from "./filter.js";
import { conditionOf, decisionText, icon, stateBadge } from "./states.js";
import { ago } from "./time.js";

const REFRESH_MILLISECONDS = 250; // Changes that come faster are drawn together.
const FLASH_MILLISECONDS = 2000;
const SPARE_ROWS = 6; // Above and below those in sight.
const COLUMNS = ["State", "Service", "Cluster", "Reached at", "Endpoints", "Zones", "Gateways", "Mesh", "Changed"];

export class ListView {
  #store;
  #host = null;
  #rows = new Map(); // element by its place in the pool
  #shown = [];
  #order = "name";
  #text = "";
  #terms = [];
  #active = 0;
  #scroller = null;
  #sheet = null;
  #timer = 0;
  #sorted = null; // every entry in order, until one comes, goes or (by order) changes

  constructor(store) {
    this.#store = store;
  }

  title() {
    return "Services";
  }

  command() {
    return listCommand(this.#terms);
  }

  open(host, { parameters }) {
    this.#host = host;
    this.#text = parameters.get("q") ?? "";
    this.#order = parameters.get("sort") in ORDERS ? parameters.get("sort") : "name";
    this.#terms = parseFilter(this.#text);
    this.#rows.clear();
    this.#sorted = null;
    this.#active = 0;
    render(host, this.#frame());
    this.#scroller = host.querySelector(".list");
    this.#sheet = host.querySelector(".sheet");
    const resized = new ResizeObserver(() => this.#draw());
    resized.observe(this.#scroller);
    const listeners = {
      reset: ({ detail }) => {
        this.#refresh(true);
        if (detail.last) this.#update();
      },
      change: ({ detail }) => this.#refresh(this.#order !== "name" || [...detail.changed].some((id) => this.#isNews(id))),
    };
    for (const [name, listener] of Object.entries(listeners)) this.#store.addEventListener(name, listener);
    this.#update();
    return () => {
      for (const [name, listener] of Object.entries(listeners)) this.#store.removeEventListener(name, listener);
      resized.disconnect();
      clearTimeout(this.#timer);
      this.#timer = 0;
    };
  }

  /** Once a second: ages. */
  tick() {
    this.#draw();
  }

  /** The address has changed. */
  move({ parameters }) {
    this.#host.querySelector("#filter").value = parameters.get("q") ?? "";
    this.#search(parameters.get("q") ?? "");
  }

  focusFilter() {
    const filter = this.#host.querySelector("#filter");
    filter.focus();
    filter.select();
  }

  #frame() {
    return h("section", { class: "services", key: "services", "aria-label": "Services" },
      h("div", { class: "tools" },
        h("label", { class: "search" },
          h("span", { class: "hidden" }, "Filter by name, address, Pod, node, zone, state or decision"),
          h("input", {
            id: "filter", type: "search", autocomplete: "off", spellcheck: "false", value: this.#text, "aria-describedby": "hint", "aria-controls": "list",
            placeholder: "Filter: name, address, Pod, node, zone, state, decision",
            on: { input: ({ target }) => this.#search(target.value), keydown: (event) => this.#leaveFilter(event) },
          }),
        ),
        h("label", { class: "order" }, h("span", {}, "Sort by "),
          h("select", { id: "order", value: this.#order, on: { change: ({ target }) => this.#sort(target.value) } },
            Object.entries(ORDERS).map(([name, { label }]) => h("option", { value: name, selected: name === this.#order }, label)))),
        h("output", { id: "count", class: "count", for: "filter" }),
      ),
      h("p", { id: "hint", class: "hint" }, "Words must all be found. In one field: ", FIELD_NAMES.map((name) => [h("code", {}, `${name}:`), " "]), h("span", {}, "Not: "), h("code", {}, "-word")),
      h("div", {
        id: "list", class: "list", role: "grid", tabindex: "0", "aria-label": "Services of all clusters", "aria-colcount": COLUMNS.length,
        on: { scroll: () => requestAnimationFrame(() => this.#draw()), keydown: (event) => this.#press(event), click: (event) => this.#click(event) },
      },
        h("div", { class: "row head", role: "row", "aria-rowindex": "1" }, COLUMNS.map((name, i) => h("div", { role: "columnheader", class: `cell c${i}` }, name))),
        h("div", { class: "sheet", role: "rowgroup" }),
      ),
      h("p", { id: "nothing", class: "wait" }),
    );
  }

  // ---- what is shown ------------------------------------------------------------------------------------

  #isNews(id) {
    return !this.#sorted?.ids.has(id) || !this.#store.entries.has(id);
  }

  #refresh(isOther) {
    if (isOther) this.#sorted = null;
    if (!this.#timer) this.#timer = setTimeout(() => this.#update(), this.#store.complete ? REFRESH_MILLISECONDS : 2 * REFRESH_MILLISECONDS);
  }

  #update() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const { entries, complete } = this.#store;
    if (!this.#sorted) {
      const list = [...entries.values()].sort(ORDERS[this.#order].compare);
      this.#sorted = { list, ids: new Set(entries.keys()) };
    }
    const { list } = this.#sorted;
    this.#shown = this.#terms.length ? list.filter((entry) => passes(this.#terms, entry, this.#store.stateOf(entry))) : list;
    this.#active = Math.max(0, Math.min(this.#active, this.#shown.length - 1));
    const [shown, all] = [this.#shown.length, entries.size].map((count) => count.toLocaleString("en"));
    render(this.#host.querySelector("#count"), complete ? (this.#terms.length ? `${shown} of ${all}` : `${all} Services`) : `reading: ${this.#store.read.toLocaleString("en")} rows`);
    this.#scroller.setAttribute("aria-rowcount", this.#shown.length + 1);
    render(this.#host.querySelector("#nothing"), this.#nothing());
    this.#draw();
  }

  #nothing() {
    if (this.#shown.length) return "";
    if (!this.#store.complete) return this.#store.entries.size ? "" : "Reading the tables";
    return this.#terms.length
      ? ["No Service has all of these words. ", h("button", { type: "button", on: { click: () => this.#clear() } }, "Show all")]
      : "There is no Service yet: no watcher has published one. `facets doctor` says what is missing.";
  }

  #draw() {
    if (!this.#scroller?.isConnected) return;
    const height = this.#rowHeight();
    const { scrollTop, clientHeight } = this.#scroller;
    const first = Math.max(0, Math.floor(scrollTop / height) - SPARE_ROWS);
    const last = Math.min(this.#shown.length, Math.ceil((scrollTop + clientHeight) / height) + SPARE_ROWS);
    this.#sheet.style.height = `${this.#shown.length * height}px`;
    for (const [id, element] of this.#rows) {
      const { place } = element;
      if (place < first || place >= last || this.#shown[place]?.id !== id) {
        element.remove();
        this.#rows.delete(id);
      }
    }
    const now = Date.now();
    let before = null;
    for (let place = first; place < last; place++) {
      const entry = this.#shown[place];
      let element = this.#rows.get(entry.id);
      if (!element) {
        element = h("div", { class: "row", role: "row" });
        this.#rows.set(entry.id, element);
      }
      // In the order of the list, for screen readers.
      const follower = before ? before.nextSibling : this.#sheet.firstChild;
      if (follower !== element) this.#sheet.insertBefore(element, follower);
      before = element;
      this.#fill(element, entry, place, height, now);
    }
    const active = this.#rows.get(this.#shown[this.#active]?.id);
    if (active) this.#scroller.setAttribute("aria-activedescendant", active.id);
    else this.#scroller.removeAttribute("aria-activedescendant");
  }

  #fill(element, entry, place, height, now) {
    const { state, reason } = this.#store.stateOf(entry);
    const isActive = place === this.#active;
    element.place = place;
    element.style.transform = `translateY(${place * height}px)`;
    element.classList.toggle("active", isActive);
    element.classList.toggle("odd", place % 2 === 1);
    element.classList.toggle("flash", now - entry.seen < FLASH_MILLISECONDS);
    const content = `${entry.stamp} ${state} ${reason}`;
    if (element.content !== content) {
      element.content = content;
      render(element, cells(entry, state, reason));
    }
    element.id = `row-${place}`;
    element.setAttribute("aria-rowindex", place + 2);
    element.setAttribute("aria-selected", isActive);
    const age = ago(entry.changed, now);
    const cell = element.lastChild;
    if (cell.textContent !== age) cell.textContent = age;
    cell.title = entry.changed;
  }

  #rowHeight() {
    return Number.parseFloat(getComputedStyle(this.#scroller).getPropertyValue("--row")) || 36;
  }

  // ---- what a person does ---------------------------------------------------------------------------------

  #search(text) {
    this.#text = text;
    this.#terms = parseFilter(text);
    this.#active = 0;
    this.#scroller.scrollTop = 0;
    adjust({ q: text });
    this.#update();
    this.#host.dispatchEvent(new CustomEvent("command", { bubbles: true }));
  }

  #clear() {
    this.#host.querySelector("#filter").value = "";
    this.#search("");
    this.focusFilter();
  }

  #sort(order) {
    this.#order = order;
    this.#sorted = null;
    adjust({ sort: order === "name" ? "" : order });
    this.#update();
  }

  #leaveFilter(event) {
    if (event.key === "Escape" && this.#text) this.#clear();
    else if (event.key === "ArrowDown" || event.key === "Enter") {
      event.preventDefault();
      if (event.key === "Enter" && this.#shown.length === 1) this.#enter();
      else this.#scroller.focus();
    }
  }

  #press(event) {
    const page = Math.max(1, Math.floor(this.#scroller.clientHeight / this.#rowHeight()) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter") this.#enter();
    else if (event.key in steps) {
      event.preventDefault();
      this.#active = Math.max(0, Math.min(this.#shown.length - 1, this.#active + steps[event.key]));
      this.#reveal();
    }
  }

  #reveal() {
    const height = this.#rowHeight();
    const top = this.#active * height;
    const head = this.#scroller.querySelector(".head").offsetHeight;
    const room = this.#scroller.clientHeight - head - height;
    if (top < this.#scroller.scrollTop) this.#scroller.scrollTop = top;
    else if (top > this.#scroller.scrollTop + room) this.#scroller.scrollTop = top - room;
    this.#draw();
  }

  #click(event) {
    const element = event.target.closest(".sheet .row");
    if (element) this.#active = element.place;
  }

  #enter() {
    const entry = this.#shown[this.#active];
    if (entry) location.hash = ofService(entry, "", { cluster: entry.cluster });
  }
}

function cells(entry, state, reason) {
  const { frontend, backend, routing } = entry;
  const addresses = frontend ? reachedAt(frontend) : "not there";
  const endpoints = backend?.endpoints ?? [];
  const contents = [
    stateBadge(state, reason),
    h("a", { class: "stretched", tabindex: "-1", href: ofService(entry, "", { cluster: entry.cluster }) }, h("span", { class: "space" }, `${entry.namespace}/`), h("b", {}, entry.name)),
    h("span", { class: "cluster" }, entry.cluster),
    [h("span", { class: "address" }, addresses), frontend && frontend.type !== "ClusterIP" && h("small", {}, frontend.type)],
    meter(endpoints),
    zones(endpoints),
    routing ? direction(routing.gateway) : "",
    routing ? direction(routing.mesh) : "",
    "",
  ];
  return contents.map((content, i) => h("div", { class: `cell c${i}`, role: "gridcell" }, content));
}

function reachedAt({ externalName, clusterIPs, headless }) {
  if (externalName) return externalName;
  if (headless) return "headless";
  return clusterIPs[0] ?? "no cluster IP";
}

const PARTS = ["ready", "draining", "serving", "terminating", "down"];

/** How many endpoints are ready, as a figure and as a bar. */
export function meter(endpoints) {
  if (!endpoints.length) return h("span", { class: "none" }, "none");
  const counts = Object.fromEntries(PARTS.map((condition) => [condition, 0]));
  for (const endpoint of endpoints) counts[conditionOf(endpoint)]++;
  const others = PARTS.slice(1).filter((condition) => counts[condition]).map((condition) => `${counts[condition]} ${condition}`);
  return [
    h("span", { class: "figure", title: [`${counts.ready} of ${endpoints.length} ready`, ...others].join(", ") }, `${counts.ready}/${endpoints.length}`),
    h("span", { class: "meter", "aria-hidden": "true" }, bar(counts, endpoints.length)),
    others.length > 0 && h("small", {}, others.join(", ")),
  ];
}

/** Ten steps: each condition that there is has one at least. */
function bar(counts, all) {
  const steps = PARTS.flatMap((condition) => Array(counts[condition] && Math.max(1, Math.round((10 * counts[condition]) / all))).fill(condition));
  return steps.slice(-10).map((condition) => h("i", { class: condition }));
}

function zones(endpoints) {
  const names = [...new Set(endpoints.map(({ zone }) => zone).filter(Boolean))].sort();
  if (!names.length) return h("span", { class: "none" }, endpoints.length ? "no zone" : "");
  return h("span", { title: names.join(", ") }, names.length > 2 ? `${names[0]} + ${names.length - 1}` : names.join(", "));
}

function direction({ decision, reason, rules }) {
  return h("span", { class: `decision ${decision}`, title: `${decisionText(decision)}: ${reason}` }, icon(decision === "endpoint" ? "filled" : decision === "service" ? "ready" : "empty"), decision, reason !== "Default" && h("small", {}, reason), rules.length > 0 && h("small", {}, `${rules.length} rules`));
}
