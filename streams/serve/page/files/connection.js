// Whether what is shown is live: in the corner in one word, and in a bar across the page where it is not.

import { h, render } from "./dom.js";
import { icon } from "./states.js";
import { ago, clock } from "./time.js";

const LATE_MILLISECONDS = 12_000; // Heartbeats come every five seconds.
const SHORT_MILLISECONDS = 1500; // A connection that is away for less is not worth a bar.

export class Connection {
  #store;
  #changes;
  #status = { state: "connecting", heard: 0, problem: "", retryAt: 0 };
  #told = "";

  constructor(store, changes) {
    [this.#store, this.#changes] = [store, changes];
    store.addEventListener("reset", () => this.tick());
  }

  show(status) {
    this.#status = status;
    this.tick();
  }

  tick() {
    const now = Date.now();
    const word = this.#word(now);
    // Screen readers are told of another state, not of each second.
    if (word !== this.#told) {
      this.#told = word;
      render(document.getElementById("connection"), icon({ live: "ready", late: "stale", disconnected: "deleted" }[word] ?? "empty"), h("span", {}, word));
      document.body.dataset.connection = word;
    }
    document.getElementById("connection").title = this.#status.heard ? `Last heard ${ago(new Date(this.#status.heard).toISOString(), now)} ago` : "";
    render(document.getElementById("notice"), this.#disconnected(word, now), this.#silent());
  }

  #word(now) {
    const { state, heard, problem } = this.#status;
    if (state === "live") {
      if (!this.#store.complete) return "reading";
      return now - heard > LATE_MILLISECONDS ? "late" : "live";
    }
    return problem ? "disconnected" : "connecting";
  }

  #disconnected(word, now) {
    const { heard, problem, retryAt } = this.#status;
    if (word === "late") return this.#bar("late", [`Nothing has come for ${ago(new Date(heard).toISOString(), now)}: what you see may be old.`]);
    if (word !== "disconnected" || now - heard < SHORT_MILLISECONDS) return null;
    const seconds = Math.max(0, Math.ceil((retryAt - now) / 1000));
    return this.#bar("disconnected", [
      h("b", {}, "Disconnected: "), `${problem}. `,
      heard ? `What you see is as of ${clock(new Date(heard).toISOString(), now)} UTC, ${ago(new Date(heard).toISOString(), now)} ago. ` : "Nothing has been read yet. ",
      retryAt > now ? `Trying again in ${seconds} s. ` : "Trying again. ",
    ]);
  }

  #bar(name, content) {
    return h("div", { class: `notice ${name}`, key: name, role: "alert" }, icon(name === "late" ? "stale" : "deleted"), h("p", {}, content), h("button", { type: "button", on: { click: () => this.#changes.reconnect("asked for") } }, "Try now"));
  }

  #silent() {
    const clusters = Object.entries(this.#store.staleClusters());
    if (!clusters.length) return null;
    return h("div", { class: "notice stale", key: "stale" }, icon("stale"), h("p", {}, clusters.map(([name, reason], i) => [i > 0 && "; ", h("b", {}, name), `: ${reason.split(";")[0]}`]), ". What is shown of it is what was last known."));
  }
}
