// Questions to the server that are asked once.

/** The server's answer that it can't say: its status, its name where it has one, and its words. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.error ? [body.error, body.remedy].filter(Boolean).join(" - ") : `status ${status}`);
    this.status = status;
    this.body = body;
  }
}

const TRIES = 8; // Questions to the past are answered one at a time.

/** The JSON at a path below the page's own; parameters that are empty are left out. A server that is busy is asked
 * again. Throws Refused, or what fetch does. */
export async function get(path, parameters = {}, signal = undefined) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const each of [value].flat()) if (each !== undefined && each !== "") query.append(name, String(each));
  }
  for (let tries = 1; ; tries++) {
    const response = await fetch(query.size ? `${path}?${query}` : path, { signal, headers: { Accept: "application/json" } });
    const body = await response.json().catch(() => ({}));
    if (response.ok) return body;
    if (response.status !== 503 || tries === TRIES) throw new Refused(response.status, body);
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds * (0.5 + Math.random() / 2)));
    signal?.throwIfAborted();
  }
}
