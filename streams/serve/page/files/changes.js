// The server's stream of changes (server-sent events, WHATWG HTML), followed for as long as the page is open.
//
// It is read with fetch and not with EventSource, which gives up at a status of 503 and says nothing of why.

const SILENT_MILLISECONDS = 16_000; // Heartbeats come every five seconds.
const SLEPT_MILLISECONDS = 10_000; // By so much a timer of a second is late after a sleep of the machine.
const SLICE_MILLISECONDS = 12; // After so long the page gets its turn.
const [FIRST_WAIT, LONGEST_WAIT] = [300, 5000];

/** Splits text into events: `push` gives those that are whole, as [event, data, id]. */
export class EventParser {
  #rest = "";

  *push(text) {
    this.#rest += text;
    let begin = 0;
    for (let end; (end = this.#rest.indexOf("\n\n", begin)) >= 0; begin = end + 2) {
      const fields = { event: "message", data: "", id: "" };
      for (const line of this.#rest.slice(begin, end).split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) fields[line.slice(0, colon)] = line.slice(colon + 2);
      }
      yield [fields.event, fields.data, fields.id];
    }
    this.#rest = this.#rest.slice(begin);
  }
}

/** Follows a stream. `take` gets each event's name and data; `tell` gets the state of the connection: `state` is
 * `connecting`, `live` or `waiting` (to try again at `retryAt`, because of `problem`), `heard` when something came last. */
export class Changes {
  #url;
  #take;
  #tell;
  #cursor = "";
  #controller = null;
  #wake = null;
  #wait = FIRST_WAIT;
  #paused = false;
  #status = { state: "connecting", heard: 0, since: 0, problem: "", retryAt: 0 };

  constructor(url, take, tell) {
    [this.#url, this.#take, this.#tell] = [url, take, tell];
  }

  get cursor() {
    return this.#cursor;
  }

  get status() {
    return this.#status;
  }

  start() {
    this.#watch();
    addEventListener("online", () => this.reconnect("the network is back"));
    addEventListener("offline", () => this.#interrupt("the network is gone"));
    this.#run();
  }

  /** Connect again now, from where the stream was. */
  reconnect(why) {
    this.#wait = FIRST_WAIT;
    this.#wake?.();
    if (this.#status.state === "connecting" && !this.#status.problem) return;
    this.#interrupt(why);
  }

  /** Leave the stream (a browser has few connections to a server, for all of its tabs) until `resume`. */
  pause() {
    this.#paused = true;
    this.#interrupt("not looked at");
  }

  resume() {
    if (!this.#paused) return;
    this.#paused = false;
    this.#wait = FIRST_WAIT;
    this.#wake?.();
  }

  /** Connect again, with a snapshot. */
  startOver(why) {
    this.#cursor = "";
    this.reconnect(why);
  }

  /** Why the stream was left last. */
  get interrupted() {
    return this.#controller?.signal.reason?.message ?? "";
  }

  #interrupt(why) {
    this.#controller?.abort(new Error(why));
  }

  #say(changes) {
    this.#status = { ...this.#status, ...changes };
    this.#tell(this.#status);
  }

  #watch() {
    let last = Date.now();
    setInterval(() => {
      const now = Date.now();
      if (now - last > SLEPT_MILLISECONDS && document.visibilityState === "visible") this.reconnect("this machine was asleep");
      else if (this.#status.state === "live" && now - this.#status.heard > SILENT_MILLISECONDS) this.#interrupt("the server is silent");
      last = now;
    }, 1000);
  }

  async #run() {
    for (;;) {
      let retryAfter = 0;
      try {
        await this.#follow();
        this.#say({ problem: "the server ended the stream" });
      } catch (error) {
        retryAfter = error.retryAfter ?? 0;
        const reason = this.#controller.signal.aborted ? this.#controller.signal.reason : error;
        this.#say({ problem: reason instanceof TypeError ? "the server can't be reached" : reason.message });
      }
      const wait = Math.max(retryAfter, this.#wait * (0.75 + Math.random() / 2));
      this.#wait = Math.min(LONGEST_WAIT, this.#wait * 2);
      this.#say({ state: "waiting", retryAt: this.#paused ? 0 : Date.now() + wait });
      do {
        await new Promise((resolve) => {
          this.#wake = resolve;
          if (!this.#paused) setTimeout(resolve, wait);
        });
      } while (this.#paused);
      this.#say({ state: "connecting" });
    }
  }

  async #follow() {
    this.#controller = new AbortController();
    const headers = this.#cursor ? { "Last-Event-ID": this.#cursor } : {};
    const response = await fetch(this.#url(), { headers, cache: "no-store", signal: this.#controller.signal });
    if (!response.ok) throw await this.#refusal(response);
    const [reader, decoder, parser] = [response.body.getReader(), new TextDecoder(), new EventParser()];
    let turn = performance.now();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      for (const [name, data, id] of parser.push(decoder.decode(value, { stream: true }))) {
        this.#wait = FIRST_WAIT;
        this.#status.heard = Date.now();
        if (this.#status.state !== "live") this.#say({ state: "live", since: Date.now(), problem: "", retryAt: 0 });
        const content = JSON.parse(data);
        if (name === "end") throw new Error(content.message);
        this.#take(name, content);
        if (id) this.#cursor = id;
        if (performance.now() - turn > SLICE_MILLISECONDS) {
          await new Promise((resolve) => setTimeout(resolve));
          turn = performance.now();
        }
      }
    }
  }

  async #refusal(response) {
    const body = await response.json().catch(() => ({}));
    // A cursor that this server can't read: it starts with a snapshot.
    if (response.status === 400 && this.#cursor) this.#cursor = "";
    const error = new Error(body.error ?? `status ${response.status}`);
    error.status = response.status;
    error.retryAfter = 1000 * Number(response.headers.get("Retry-After") ?? 0);
    return error;
  }
}
