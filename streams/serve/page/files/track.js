// The timeline's track: a lane for each cluster, on it a mark for each moment at which something changed there.

import { h, svg } from "./dom.js";
import { clock, iso } from "./time.js";

const [WIDTH, LANE, LABELS] = [1000, 26, 22];
const TICKS = 5;
const MARKS_SHOWN = 1000;

/** How far a mark reaches above and below its lane's middle: those that are of one moment stand beside each other, and a
 * table can be told by its place, not by its colour alone. */
const HEIGHTS = { frontend: [11, -4], backend: [4, 4], routing: [-4, 11], clusterset: [6, 6] };
const PLACES = { frontend: "top", backend: "middle", routing: "bottom", clusterset: "its own lane" };

/** What the marks mean. */
export function trackLegend(tables) {
  return h("ul", { class: "legend", "aria-label": "Marks" }, Object.entries(HEIGHTS).filter(([table]) => tables.has(table)).map(([table, [above, below]]) =>
    h("li", {}, svg("svg", { class: "icon key", viewBox: "-10 -12 20 24", "aria-hidden": "true" }, svg("line", { class: "lane", x1: -10, x2: 10, y1: 0, y2: 0 }), svg("line", { class: `mark ${table}`, x1: 0, x2: 0, y1: -above, y2: below })), h("b", {}, table), ` ${PLACES[table]}`)));
}

/** The track from `begin` to `end` (milliseconds). `pick` gets the time at which it is clicked. */
export function track({ rows, begin, end, chosen, pick }) {
  const lanes = [...new Set(rows.map(laneOf))].sort();
  const height = lanes.length * LANE + LABELS;
  const x = (milliseconds) => ((milliseconds - begin) / Math.max(1, end - begin)) * WIDTH;
  const ticks = Array.from({ length: TICKS }, (_, i) => begin + ((end - begin) * (i + 0.5)) / TICKS);
  return h("div", { class: "track", key: "track" },
    h("ul", { class: "lanes", "aria-hidden": "true" }, lanes.map((name) => h("li", {}, name))),
    svg("svg", {
      viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", class: "marks", role: "img", height,
      "aria-label": `${rows.length} changes from ${clock(iso(begin))} to ${clock(iso(end))} UTC`,
      on: { click: (event) => pick(timeAt(event, begin, end)), pointermove: (event) => event.buttons && pick(timeAt(event, begin, end)) },
    },
      lanes.map((_, i) => svg("line", { class: "lane", x1: 0, x2: WIDTH, y1: i * LANE + LANE / 2, y2: i * LANE + LANE / 2 })),
      rows.slice(-MARKS_SHOWN).map((row) => mark(row, x(Date.parse(row.asOf.at)), lanes.indexOf(laneOf(row)) * LANE + LANE / 2)),
      svg("line", { class: "chosen", x1: x(chosen), x2: x(chosen), y1: 0, y2: height - LABELS }),
    ),
    h("ol", { class: "ticks", "aria-hidden": "true" }, ticks.map((at) => h("li", {}, clock(iso(at)).replace(/\.\d+$/, "")))),
  );
}

function laneOf(row) {
  return row.cluster || "exported together";
}

function mark(row, x, y) {
  // Its own scale: the track is stretched to the width that there is.
  return svg("line", { class: `mark ${row.table} ${row.state}`, x1: x, x2: x, y1: y - HEIGHTS[row.table][0], y2: y + HEIGHTS[row.table][1] }, svg("title", {}, `${clock(row.asOf.at)} ${row.cluster} ${row.table} ${row.state}`));
}

function timeAt(event, begin, end) {
  const { left, width } = event.currentTarget.getBoundingClientRect();
  return begin + ((event.clientX - left) / width) * (end - begin);
}
