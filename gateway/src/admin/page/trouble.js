// What is not as it should be, worst first. Levels: bad (clients notice), warn (they do not yet), note (somebody wanted it so).

import { percent, span } from "./words.js";

const ORDER = { bad: 0, warn: 1, note: 2 };

// Of one service.
export function ofService(service) {
  const found = [];
  const add = (level, text) => found.push({ level, text });
  // Whoever stands in a slot that gets no requests may be as it likes.
  const servers = (service.servers ?? []).filter((server) => server.in_turn);
  const takes = servers.filter(isAsked);
  if (servers.length && !takes.length) add("bad", "no server takes requests");
  for (const probe of service.probes ?? []) {
    if (probe.state === "bad") add("bad", `${probe.probe} fails${probe.last?.status ? ` with ${probe.last.status}` : ""}`);
  }
  const { error_ratio: ratio, requests_per_second: rate } = service.traffic?.windows?.["1m"] ?? {};
  if (ratio > 0.01 && rate * 60 >= 5) add(ratio > 0.05 ? "bad" : "warn", `${percent(ratio)} of the requests fail`);
  for (const server of takes.length ? servers : []) {
    if (!isAsked(server) && server.state !== "drained") add("warn", `${server.server} is ${server.state}`);
  }
  if (service.waiting > 0) add("warn", `${service.waiting} requests wait for a server`);
  if (service.maintenance) add("note", "in maintenance");
  const drained = servers.filter((server) => server.drained).length;
  if (drained && takes.length) add("note", `${drained} of ${servers.length} servers drained`);
  return found.sort((a, b) => ORDER[a.level] - ORDER[b.level]);
}

// How an aggregate is, in one word and for people.
export function ofAggregate(one) {
  if (one.pending) return ["note", "not asked yet"];
  return { pass: ["good", "passes"], warn: ["warn", "passes, not all do"], fail: ["bad", "does not pass"] }[one.status] ?? ["note", one.status];
}

// Of everything: the gateway's own before that of services, each of which stands once.
export function ofAll(status) {
  const found = [];
  const add = (level, text, href = "#top") => found.push({ level, text, href, service: "" });
  const told = (one) => `${one.text}${one.about ? ` (${one.about})` : ""}`;
  for (const one of status.gateway?.reasons ?? []) add("bad", `The gateway takes no traffic: ${told(one)}`);
  // What services and certificates say themselves stands there.
  const said = ["servers_down", "servers_drained", "certificate_missing"];
  for (const one of status.gateway?.warnings ?? []) {
    if (one.reason === "reload_refused") add("warn", "The last reload was refused: the configuration before it is in force. `probegate reload` says why");
    else if (!said.includes(one.reason)) add("warn", told(one)[0].toUpperCase() + told(one).slice(1));
  }
  for (const certificate of status.certificates?.certificates ?? []) {
    const name = certificate.names?.[0] ?? certificate.from;
    const left = certificate.left ?? 0;
    if (certificate.state !== "valid") add("bad", `The certificate for ${name} is ${certificate.state}`, "#certificates");
    else if (left < 14 * 86400) add(left < 3 * 86400 ? "bad" : "warn", `The certificate for ${name} ends to be valid in ${span(left)}`, "#certificates");
  }
  for (const one of status.aggregates ?? []) {
    const [level] = ofAggregate(one);
    if (level !== "bad" && level !== "warn") continue;
    const wrong = one.checks.filter((check) => !check.passes).map((check) => `${check.name}${check.reason ? ` (${check.reason})` : ""}`).join(", ");
    const age = one.from === "probes" && one.asked ? status.time - one.asked : 0;
    const asked = age > 60 ? `, when it was asked ${span(age)} ago` : "";
    add(level, `The aggregate ${one.aggregate} ${level === "bad" ? "does not pass" : "passes without all of its services"}: ${wrong}${asked}`, "#aggregates");
  }
  for (const service of status.services ?? []) {
    const all = ofService(service);
    if (all.length) found.push({ level: all[0].level, text: all.map((one) => one.text).join(", "), href: `#service-${service.service}`, service: service.service });
  }
  return found.sort((a, b) => ORDER[a.level] - ORDER[b.level]);
}

/** Nobody has checked it, and it has answered nobody yet. */
export function isUnknown(server) {
  return server.state === "up" && server.health === "unknown" && server.requests <= server.failures + server.in_flight;
}

export function isAsked(server) {
  return server.state === "up" || server.state === "on trial";
}
