// Differences as a list: a sign, a word and a colour for each.

import { h } from "./dom.js";
import { endpointChange, same } from "./difference.js";

const WORDS = { "+": "added", "-": "removed", "~": "changed" };
const SHOWN = 60;
const LONGEST = 160;

/** The differences of one table and cluster. */
export function differenceList(differences) {
  if (!differences.length) return h("p", { class: "none" }, "Nothing differs.");
  return [
    h("ul", { class: "differences" }, differences.slice(0, SHOWN).map((difference) => h("li", { class: WORDS[difference.sign] },
      h("span", { class: "sign", "aria-hidden": "true" }, difference.sign), h("span", { class: "hidden" }, WORDS[difference.sign]), content(difference)))),
    differences.length > SHOWN && h("p", { class: "none" }, `and ${differences.length - SHOWN} more`),
  ];
}

function content(difference) {
  const { sign, what, before, after, isEndpoint } = difference;
  if (isEndpoint) {
    const target = (after ?? before).target;
    return [h("span", { class: "mono" }, what), ` ${endpointChange(difference)}`, target && h("small", {}, target.name)];
  }
  if (sign !== "~") return [what, sign === "+" ? " came" : " went"];
  if (Array.isArray(before) && Array.isArray(after)) return [h("b", {}, what), ": ", listed(before, after)];
  return [h("b", {}, what), ": ", h("del", {}, short(before)), " to ", h("ins", {}, short(after))];
}

/** Of two lists what only one of them has; if it is their order alone that differs, both. */
function listed(before, after) {
  const gone = before.filter((item) => !after.some((other) => same(item, other)));
  const come = after.filter((item) => !before.some((other) => same(item, other)));
  if (!gone.length && !come.length) return [h("del", {}, before.map(short).join(", ")), " to ", h("ins", {}, after.map(short).join(", "))];
  return [
    gone.map((item, i) => [i > 0 && ", ", h("del", {}, short(item))]),
    gone.length > 0 && come.length > 0 && " to ",
    come.map((item, i) => [i > 0 && ", ", h("ins", {}, short(item))]),
    before.length > gone.length && h("small", {}, `${before.length - gone.length} as before`),
  ];
}

function short(value) {
  const text = words(value);
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 3)}...` : text;
}

/** A value in words: of objects the fields that say something. */
function words(value) {
  if (value === "" || value === null || value === undefined) return "none";
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return value.length ? value.map(words).join(", ") : "none";
  if ("decision" in value) return `${value.decision} (${value.reason})${value.rules?.length ? `, ${value.rules.length} rules` : ""}`;
  const fields = Object.entries(value).filter(([, each]) => each !== null && each !== "" && !(Array.isArray(each) && !each.length));
  return fields.length ? fields.map(([name, each]) => `${name} ${words(each)}`).join(" ") : "none";
}
