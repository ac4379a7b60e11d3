// What is beside the services: limits, bans, certificates, and the last requests that were refused.

import { h } from "./dom.js";
import { ofAggregate } from "./trouble.js";
import { ago, clock, count, date, explain, number, span } from "./words.js";

const mono = (text) => h("bdi", { class: "mono" }, text);

// Once a second, columns keep their places; wide ones scroll, by keys as well.
function table(name, heads, rows) {
  return h("div", { key: "table", class: "scroll", tabindex: "0", role: "region", "aria-label": `${name}: the table` },
    h("table", null,
      h("thead", null, h("tr", null, heads.map(([text, kind], i) => (text ? h("th", { key: i, scope: "col", class: kind }, text) : h("td", { key: i }))))),
      h("tbody", null, rows)));
}

function section(id, name, many, none, content) {
  return h("section", { key: id, id, "aria-labelledby": `${id}-name`, tabindex: "-1" },
    h("div", { key: "title", class: "title" }, h("h2", { id: `${id}-name` }, name), h("span", { class: "how-many" }, many)),
    content ?? h("p", { key: "none", class: "none" }, none));
}

// Who asks most of a limit: by name where the configuration lets it be told, else by a sign that stays the same.
function hottest(limit) {
  const keys = limit.hot?.keys ?? [];
  if (!keys.length) return "–";
  return keys.map((key, i) => [i > 0 && ", ", h("span", { key: key.key, class: "hot" }, mono(key.shown ?? key.key.slice(0, 8)), ` ${number(key.requests)}`)]);
}

export function limits(status) {
  const kept = (limit) => (limit.mode === "shadow" ? limit.would_refuse : limit.refused);
  const all = [...(status.limits ?? [])].sort((a, b) => kept(b) - kept(a));
  const rows = all.map((limit) => h("tr", { key: limit.limit },
    h("th", { scope: "row" }, h("bdi", null, limit.limit), limit.mode === "shadow" && h("span", { class: "tag" }, "shadow")),
    h("td", null, limit.terms, h("span", { class: "why" }, `by ${limit.key}`)),
    h("td", { class: "num" }, number(limit.requests)),
    h("td", { class: "num" }, number(kept(limit))),
    h("td", { class: "num" }, number(limit.waiting)),
    h("td", { class: `num ${limit.evicted + limit.uncounted > 0 ? "warn" : ""}` }, number(limit.evicted + limit.uncounted)),
    h("td", { class: "wide" }, hottest(limit))));
  return section("limits", "Limits", number(all.length), "No limits are configured.",
    all.length ? table("Limits", [["Limit"], ["Allows"], ["Asked", "num"], ["Refused", "num"], ["Wait now", "num"], ["Forgotten", "num"], ["Most lately"]], rows) : null);
}

// What balancers are told about several services at once. Nobody is asked for this.
export function aggregates(status) {
  const all = status.aggregates ?? [];
  if (!all.length) return null;
  const rows = all.map((one) => {
    const [level, word] = ofAggregate(one);
    return h("tr", { key: one.aggregate },
      h("th", { scope: "row" }, h("bdi", null, one.aggregate), h("span", { class: "why" }, mono(one.path))),
      h("td", null, h("span", { class: `badge ${level}` }, word)),
      h("td", null, one.from === "checks" ? "health checks" : one.probe),
      h("td", { class: "wide" }, one.checks.map((check, i) => [i > 0 && ", ", h("bdi", { key: check.name }, check.name), ` ${check.passes ? "passes" : check.reason === "unknown" ? "not asked yet" : "fails"}${check.reason && check.reason !== "unknown" ? ` (${check.reason})` : ""}${check.required ? "" : ", optional"}`])));
  });
  return section("aggregates", "Aggregates", number(all.length), "", table("Aggregates", [["Aggregate"], ["State"], ["From"], ["Services"]], rows));
}

export function bans(status, act) {
  const known = status.bans?.bans ?? [];
  const total = status.bans?.count ?? known.length;
  const rows = known.map((ban) => {
    const what = { title: "Lift this ban?", text: `${ban.client} is let in again, and what it did is forgotten.`, verb: "Lift the ban", method: "DELETE", path: `/bans/${encodeURIComponent(ban.client)}`, done: `${ban.client} is not banned any more.` };
    return h("tr", { key: `${ban.policy} ${ban.client}` },
      h("th", { scope: "row" }, mono(ban.client)),
      h("td", null, h("bdi", null, ban.policy === "by_hand" ? "by hand" : ban.policy), ban.mode === "shadow" && h("span", { class: "tag" }, "shadow")),
      h("td", { class: "wide" }, h("bdi", null, ban.text || (ban.offence ?? "–"))),
      h("td", { class: "num" }, span(ban.left)),
      h("td", { class: "num" }, number(ban.count)),
      h("td", { class: "act" }, h("button", { type: "button", class: "small", "aria-label": `Lift the ban of ${ban.client}`, onclick: () => act(what) }, "Lift")));
  });
  return section("bans", "Bans", total > known.length ? `the last ${known.length} of ${number(total)}` : number(total), "Nobody is banned.",
    known.length ? table("Bans", [["Client"], ["Policy"], ["For"], ["Left", "num"], ["Time", "num"], [""]], rows) : null);
}

export function certificates(status) {
  const all = status.certificates?.certificates ?? [];
  const rows = all.map((one, i) => {
    const left = one.left ?? 0;
    const level = one.state !== "valid" || left < 3 * 86400 ? "bad" : left < 14 * 86400 ? "warn" : "good";
    const [first, ...more] = one.names?.length ? one.names : [one.from];
    return h("tr", { key: i },
      h("th", { scope: "row" }, mono(first), more.length > 0 && h("span", { class: "tag", title: more.join(", ") }, `and ${more.length} more`)),
      h("td", null, h("span", { class: `badge ${level}` }, one.state === "valid" ? `${span(left)} left` : one.state)),
      h("td", { class: "num" }, one.not_after ? date(one.not_after) : "–"),
      h("td", null, one.source === "acme" ? "ACME" : "file"),
      h("td", { class: "wide" }, h("bdi", null, one.issuer ?? "–")));
  });
  return section("certificates", "Certificates", number(all.length), "No listener speaks TLS.",
    all.length ? table("Certificates", [["Name"], ["State"], ["Until", "num"], ["From"], ["Issuer"]], rows) : null);
}

function command(denial, copy, file) {
  const text = explain(denial, file);
  if (!text) return h("span", { class: "none" }, denial.host_cut ? "the host is cut" : denial.path_cut ? "the path is cut" : "–");
  return h("details", { class: "explain" },
    h("summary", { "aria-label": `Explain ${denial.method} ${denial.path}` }, "explain"),
    h("div", { class: "command" }, h("code", null, text), h("button", { type: "button", class: "small", onclick: () => copy(text) }, "Copy")));
}

export function denials(status, copy) {
  const all = status.denials ?? [];
  const rows = all.map((one) => h("tr", { key: one.request_id },
    h("td", { class: "time" }, h("time", { datetime: new Date(one.time).toISOString(), title: ago(status.time - one.time / 1000) }, clock(one.time / 1000))),
    h("td", null, mono(one.client ?? "–"), one.client_known === false && h("span", { class: "tag" }, "peer")),
    h("td", { class: "wide asked" }, one.method && h("span", { class: "method" }, one.method), h("bdi", { class: "mono" }, `${one.host ?? ""}${one.host_cut ? "…" : ""}${one.path ?? ""}` || "no request that could be read", one.path_cut ? "…" : "")),
    h("td", { class: "num" }, one.status),
    h("td", { class: "wide" }, one.text, one.policy && h("span", { class: "why" }, h("bdi", null, one.policy), one.line ? `, line ${one.line}` : "")),
    h("td", { class: "act" }, command(one, copy, status.configuration?.file))));
  return section("denials", "Refused lately", all.length ? count(all.length, "request", "requests") : "", "Nothing was refused since the start.",
    all.length ? table("Requests refused lately", [["At"], ["Client"], ["Asked for"], ["Status", "num"], ["Because"], [""]], rows) : null);
}
