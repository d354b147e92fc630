// A Service's past: its rows over time, of which each moment's state follows.

import { Refused, get } from "./api.js";
import { iso } from "./time.js";

const PAGE = 200; // Rows that are asked for at once.
const MOST = 50 * PAGE; // Of more the page would be slow: what is older is looked at in a terminal.
const TABLES = ["frontend", "backend", "routing", "clusterset"];

const placeOf = (row) => `${row.table} ${row.cluster}`;

/** The rows of a Service, oldest first, and the moments at which they came. */
export class Past {
  rows = [];
  more = false; // there are older ones
  remarks = [];
  isRead = false;
  #base = new Map(); // by table and cluster the row before the oldest that is held

  constructor(service) {
    this.service = service;
  }

  get moments() {
    return [...new Set(this.rows.map((row) => row.asOf.at))].sort();
  }

  /** Read the newest rows. */
  async read(signal) {
    const { items, more, remarks } = await this.#ask({ limit: PAGE }, signal);
    [this.rows, this.more, this.remarks] = [items, more, remarks ?? []];
    await this.#readBase(signal);
    this.isRead = true;
  }

  /** Whether what was at a moment follows from what is held. */
  reaches(moment) {
    return !this.more || moment >= this.moments[0];
  }

  /** Read what is older than what is held. */
  async readOlder(signal) {
    await this.#readPage(signal);
    await this.#readBase(signal);
  }

  /** Read older rows until what is held reaches a moment ("": until there are no more), or is as much as may be. */
  async readBack(moment, signal) {
    const before = this.rows.length;
    while (this.more && !(moment && this.reaches(moment)) && this.rows.length < MOST) {
      if (!(await this.#readPage(signal))) break;
    }
    if (this.rows.length !== before) await this.#readBase(signal);
  }

  /** Take a row that has just come. */
  add(row) {
    if (!this.rows.some((held) => idOf(held) === idOf(row))) this.rows.push(row);
  }

  /** How many rows were not held before. */
  async #readPage(signal) {
    const { items, more } = await this.#ask({ limit: PAGE, until: this.moments[0] }, signal);
    const held = new Set(this.rows.map(idOf));
    const older = items.filter((row) => !held.has(idOf(row)));
    this.rows = [...older, ...this.rows];
    this.more = more;
    return older.length;
  }

  #ask(parameters, signal) {
    const { namespace, name } = this.service;
    return get(`v1/history/${namespace}/${name}`, parameters, signal);
  }

  async #readBase(signal) {
    this.#base.clear();
    if (!this.more || !this.rows.length) return;
    const { namespace, name: service } = this.service;
    const at = iso(Date.parse(this.moments[0]) - 1);
    try {
      for (const table of TABLES) {
        const { items } = await get(`v1/facets/${table}`, { namespace, service, at }, signal);
        for (const row of items) this.#base.set(placeOf(row), row);
      }
    } catch (error) {
      // The journal may begin later: what is held is shown all the same.
      if (!(error instanceof Refused)) throw error;
      this.remarks = [...this.remarks, `What was before ${this.moments[0]} is not known: ${error.message}`];
    }
  }

  /** The rows as they were at a moment (inclusive), one for each table and cluster that had one. */
  at(moment) {
    const found = new Map(this.#base);
    for (const row of this.rows) if (row.asOf.at <= moment) found.set(placeOf(row), row);
    return [...found.values()].filter(({ state }) => state !== "deleted").sort((one, other) => (placeOf(one) < placeOf(other) ? -1 : 1));
  }

  /** The rows that came at a moment. */
  cameAt(moment) {
    return this.rows.filter((row) => row.asOf.at === moment);
  }

  /** The row that a row replaced; null if there was none, or it is not held. */
  before(row) {
    let found = this.#base.get(placeOf(row)) ?? null;
    for (const other of this.rows) {
      if (other === row || other.version >= row.version) continue;
      if (placeOf(other) === placeOf(row) && other.version >= (found?.version ?? -1)) found = other;
    }
    return found?.state === "deleted" ? null : found;
  }
}

function idOf(row) {
  return `${placeOf(row)} ${row.version}`;
}
