// The `facets` command that prints what a view shows.

const quote = (text) => (/^[\w./:=@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** For the list: by address `facets who`, else `facets get` with what of the filter it knows, and grep for the rest. */
export function listCommand(terms) {
  const address = terms.length === 1 && !terms[0].isNot && ["", "address"].includes(terms[0].field) && isAddress(terms[0].value) ? terms[0].value : "";
  if (address) return `facets who ${address}`;
  const only = (field) => terms.filter((term) => term.field === field && !term.isNot).map(({ value }) => value);
  const namespaces = only("namespace").flatMap((value) => ["-n", quote(value)]);
  const clusters = only("cluster").flatMap((value) => ["--cluster", quote(value)]);
  const others = terms.filter(({ field, isNot }) => isNot || !["namespace", "cluster"].includes(field));
  const table = others.some(({ field }) => field === "decision" || field === "reason") ? "routing" : "backend";
  const output = others.length ? ["-o", needsJson(others) ? "json" : "wide"] : [];
  const greps = others.map(({ value, isNot }) => ` | grep -${isNot ? "v" : ""}iF -e ${quote(value)}`);
  return ["facets get", table, ...(namespaces.length ? namespaces : ["-A"]), ...clusters, ...output].join(" ") + greps.join("");
}

function needsJson(terms) {
  return terms.some(({ field }) => ["pod", "node", ""].includes(field));
}

function isAddress(text) {
  return /^\d{1,3}(\.\d{1,3}){3}$/.test(text) || (/^[0-9a-f:.]+$/.test(text) && text.includes("::")) || /^([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}$/.test(text);
}

const of = ({ namespace, name, cluster }) => `${quote(name)} -n ${quote(namespace)}${cluster ? ` --cluster ${quote(cluster)}` : ""}`;

/** For a Service as it is. */
export const serviceCommand = (service) => `facets get backend ${of(service)} -o wide`;

/** For a Service as it was. */
export const pastCommand = (service, at) => `facets get backend ${of(service)} --at ${at} -o wide`;

/** For a Service's changes. */
export const historyCommand = (service, { since, until }) =>
  `facets history ${of(service)}${since ? ` --since ${since}` : ""}${until ? ` --until ${until}` : ""}`;

/** For two moments of a Service. */
export const diffCommand = (service, from, to) => `facets diff ${of(service)}${from ? ` --from ${from}` : ""}${to ? ` --to ${to}` : ""}`;
