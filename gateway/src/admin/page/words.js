// Numbers, times and commands, as people read them.

export function number(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)} G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  if (value >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(value < 1 ? 2 : 1);
}

export function percent(ratio) {
  if (ratio === null || ratio === undefined) return "–";
  if (ratio === 0) return "0 %";
  if (ratio < 0.001) return "< 0.1 %";
  return `${(ratio * 100).toFixed(ratio < 0.1 ? 1 : 0)} %`;
}

export function millis(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10000) return `${Math.round(value / 1000)} s`;
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

// A length of time, in its one or two largest units.
export function span(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let left = Math.max(0, Math.round(seconds));
  const first = units.findIndex(([, size]) => left >= size);
  if (first < 0) return "0 s";
  const [name, size] = units[first];
  const count = Math.floor(left / size);
  left -= count * size;
  const [smaller, part] = units[first + 1] ?? [];
  const more = first < 3 && count < 10 ? Math.floor(left / part) : 0;
  return more ? `${count}\u00a0${name} ${more}\u00a0${smaller}` : `${count}\u00a0${name}`;
}

export function ago(seconds) {
  return seconds < 2 ? "now" : `${span(seconds)} ago`;
}

export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString([], { hour12: false });
}

export function date(unix) {
  return new Date(unix * 1000).toISOString().slice(0, 10);
}

export function count(value, one, many) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

// A word for a shell, whatever is in it. What was sent by strangers stands in these commands.
export function quoted(text) {
  return /^[A-Za-z0-9_./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// What to ask `probegate explain` about a refused request; null: not enough of it is known.
export function explain(denial, file) {
  if (!denial.path || denial.path_cut || denial.host_cut || !/^[A-Z]+$/.test(denial.method ?? "")) return null;
  // Nothing that a terminal could take for anything but text.
  const plain = (text) => text.replace(/[^\x21-\x7e]/gu, (c) => encodeURIComponent(c));
  // The port says which listener it was.
  const scheme = denial.scheme === "https" ? "https" : "http";
  const port = denial.port && denial.port !== (scheme === "https" ? 443 : 80) ? `:${denial.port}` : "";
  const host = denial.host ? `${scheme}://${plain(denial.host)}${port}` : "";
  const from = denial.client ? ` --from ${quoted(plain(denial.client))}` : "";
  // Without a file, the gateway runs the default configuration, as `explain` does.
  const config = file ? ` -c ${quoted(file)}` : "";
  return `probegate explain${config}${from} ${denial.method} ${quoted(host + plain(denial.path))}`;
}
