// Addresses of views: what is behind the `#`, so that the page works under any path. Each can be sent to a colleague.

/** The view and its parameters that an address names. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?");
  const parts = path.split("/").filter(Boolean).map(decode);
  const parameters = new URLSearchParams(query);
  if (parts.length === 0) return { view: "list", parameters };
  if (parts[0] === "services" && (parts.length === 3 || parts.length === 4)) {
    const view = parts[3] ?? "service";
    if (["service", "timeline", "compare"].includes(view)) return { view, namespace: parts[1], name: parts[2], parameters };
  }
  if (parts.length === 1 && ["routers", "clusters"].includes(parts[0])) return { view: parts[0], parameters };
  return { view: "unknown", parameters };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a view. */
export function format(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) if (value) query.set(name, value);
  const text = query.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

/** The address of a Service, or of one of its views. */
export function ofService({ namespace, name }, view = "", parameters = {}) {
  const path = `services/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}${view ? `/${view}` : ""}`;
  return format(path, parameters);
}

/** Change parameters of the present address, without a step in the history of the browser. */
export function adjust(changes) {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parameters = { ...Object.fromEntries(new URLSearchParams(query)), ...changes };
  history.replaceState(null, "", format(path, parameters));
}
