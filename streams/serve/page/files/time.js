// Times in UTC, as rows and commands have them, and how long ago they are.

/** How long ago, in two units at most: 4s, 3m10s, 2h5m, 3d4h. */
export function ago(at, now = Date.now()) {
  const milliseconds = now - Date.parse(at);
  return Number.isNaN(milliseconds) ? "" : span(Math.max(0, milliseconds));
}

/** A time span in two units at most. */
export function span(milliseconds) {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)}h${Math.floor((seconds % 3600) / 60)}m`;
  return `${Math.floor(seconds / 86400)}d${Math.floor((seconds % 86400) / 3600)}h`;
}

/** The time of day in UTC, with the date where it is not today's. */
export function clock(at, now = Date.now()) {
  if (!at) return "";
  const [date, time] = at.replace(/Z$/, "").split("T");
  return date === new Date(now).toISOString().slice(0, 10) ? time : `${date} ${time}`;
}

/** RFC 3339 in UTC with milliseconds. */
export function iso(milliseconds) {
  return new Date(milliseconds).toISOString();
}

/** What a person types as a time: RFC 3339, a time of today, or how long ago (15m, 1h30m); null if it is none. */
export function readTime(text, now = Date.now()) {
  const trimmed = text.trim();
  const parts = [...trimmed.matchAll(/(\d+)([dhms])/g)];
  if (parts.length && parts.map((part) => part[0]).join("") === trimmed) {
    const units = { d: 86400, h: 3600, m: 60, s: 1 };
    return now - 1000 * parts.reduce((sum, [, count, unit]) => sum + Number(count) * units[unit], 0);
  }
  const today = new Date(now).toISOString().slice(0, 10);
  const whole = /^\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?Z?$/.test(trimmed) ? `${today}T${trimmed.replace(/^(\d):/, "0$1:")}` : trimmed.replace(" ", "T");
  const milliseconds = Date.parse(/(Z|[+-]\d{2}:\d{2})$/.test(whole) ? whole : `${whole}Z`);
  return Number.isNaN(milliseconds) ? null : milliseconds;
}
