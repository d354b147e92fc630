// Differences as a list: a sign, a word and a colour for each.

import { h } from "./dom.js";
import { endpointChange } from "./difference.js";

const WORDS = { "+": "added", "-": "removed", "~": "changed" };
const SHOWN = 60;

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
  return [h("b", {}, what), ": ", h("del", {}, short(before)), " to ", h("ins", {}, short(after))];
}

function short(value) {
  if (value === "" || value === null || value === undefined) return "none";
  const text = typeof value === "string" ? value : Array.isArray(value) && !value.length ? "none" : summary(value);
  return text.length > 160 ? `${text.slice(0, 157)}...` : text;
}

function summary(value) {
  if (typeof value !== "object") return String(value);
  if ("decision" in value) return `${value.decision} (${value.reason})${value.rules?.length ? `, ${value.rules.length} rules` : ""}`;
  return JSON.stringify(value);
}
