// Services: what they get, what their probes say, and their servers.

import { h } from "./dom.js";
import { slots } from "./slots.js";
import { isAsked, isUnknown, ofService } from "./trouble.js";
import { ago, count, millis, number, percent } from "./words.js";

// The last minutes of one service, as an area: requests, and the errors among them.
function chart(points, name) {
  const [wide, high] = [240, 40];
  const most = Math.max(1, ...points.map((point) => point.rate ?? 0));
  const step = wide / 149;
  const from = wide - (points.length - 1) * step;
  const area = (of) => {
    if (points.length < 2) return "";
    const line = points.map((point, i) => `${(from + i * step).toFixed(1)} ${(high - (of(point) / most) * (high - 3)).toFixed(1)}`);
    return `M${from.toFixed(1)} ${high} L${line.join(" L")} L${wide} ${high} Z`;
  };
  const peak = points.length ? `up to ${number(most)} requests a second` : "nothing yet";
  return h("svg", { key: "chart", class: "chart", viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", role: "img", "aria-label": `Requests to ${name} in the last five minutes: ${peak}` },
    h("line", { x1: 0, x2: wide, y1: high - 0.5, y2: high - 0.5, class: "base" }),
    h("path", { d: area((point) => point.rate ?? 0), class: "requests" }),
    h("path", { d: area((point) => point.errors ?? 0), class: "errors" }),
  );
}

// The last answers of an app to a probe. Failures reach higher than successes, so that nobody has to tell colours apart.
function strip(probe) {
  const heard = probe.history ?? [];
  const bad = heard.filter((one) => !one.good).length;
  const label = heard.length ? `The last ${count(heard.length, "answer", "answers")}: ${heard.length - bad} good, ${bad} bad` : "No answers yet";
  return h("svg", { class: "strip", viewBox: "0 0 120 16", preserveAspectRatio: "none", role: "img", "aria-label": label },
    heard.slice(-30).map((one, i, all) => {
      const x = 120 - (all.length - i) * 4;
      return h("rect", { key: i, x, width: 3, y: one.good ? 6 : 0, height: one.good ? 10 : 16, class: one.good ? "good" : "bad" });
    }));
}

const STATES = { good: "passes", bad: "fails", unknown: "not asked", answered: "answered here" };

function probe(one, now) {
  const last = one.last;
  const detail = last && [last.status ?? "no answer", last.reason && last.reason.replaceAll("_", " "), millis(last.ms), ago(now - last.time / 1000)];
  const told = detail ? detail.filter(Boolean).join(" · ") : "";
  return h("li", { key: one.probe, class: "probe" },
    h("span", { class: `mark ${one.state}`, "aria-hidden": "true" }),
    h("span", { class: "name", title: one.path }, one.probe),
    h("span", { class: "state" }, STATES[one.state] ?? one.state),
    one.origin === "gateway" ? h("span", { class: "strip" }) : strip(one),
    h("span", { class: "detail", title: told }, told),
  );
}

function server(service, one, act) {
  const title = one.drained ? `Undrain ${one.server} of ${service.service}` : `Drain ${one.server} of ${service.service}`;
  const path = `/services/${encodeURIComponent(service.service)}/servers/${encodeURIComponent(one.server)}/drain`;
  const what = one.drained
    ? { title: "Undrain this server?", text: `${one.server} gets requests to ${service.service} again.`, verb: "Undrain", method: "DELETE", path, done: `${one.server} is not drained any more.` }
    : { title: "Drain this server?", text: `${one.server} gets no new requests to ${service.service}. Those that run are finished.`, verb: "Drain", method: "PUT", path, done: `${one.server} is drained.`, force: true };
  const level = isAsked(one) ? "good" : one.drained || !one.in_turn ? "note" : "bad";
  return h("tr", { key: one.server },
    h("th", { scope: "row" }, h("bdi", { class: "mono" }, one.server), one.slot && h("span", { key: "slot", class: "tag" }, one.slot), one.backup && h("span", { class: "tag" }, "backup")),
    h("td", { class: "wide" }, h("span", { class: `badge ${isUnknown(one) ? "note" : level}` }, isUnknown(one) ? "not checked" : one.state), one.why && h("span", { class: "why" }, one.why)),
    h("td", { class: "num" }, number(one.in_flight), one.max_in_flight ? ` of ${number(one.max_in_flight)}` : ""),
    h("td", { class: "num" }, number(one.requests)),
    h("td", { class: "num" }, number(one.failures)),
    h("td", { class: "act" }, h("button", { type: "button", class: "small", "aria-label": title, onclick: () => act(what) }, one.drained ? "Undrain" : "Drain")),
  );
}

function servers(service, act, isFew) {
  const all = service.servers ?? [];
  if (!all.length) return null;
  const turn = all.filter((one) => one.in_turn);
  const asked = turn.filter(isAsked).length;
  return h("details", { key: "servers", class: "servers", once: { open: isFew || asked < turn.length } },
    h("summary", null, `${asked} of ${count(turn.length, "server takes", "servers take")} requests`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Servers of ${service.service}` },
      h("table", null,
        h("thead", null, h("tr", null, ["Server", "State", "In flight", "Requests", "Failed"].map((name, i) => h("th", { key: name, scope: "col", class: i > 1 ? "num" : null }, name)), h("td", { key: "act" }))),
        h("tbody", null, all.map((one) => server(service, one, act))))));
}

function figure(value, unit, name, level) {
  return h("div", { key: name, class: `figure ${level ?? ""}` }, h("dt", null, name), h("dd", null, value, unit && h("span", { class: "unit" }, ` ${unit}`)));
}

function card(service, points, now, act, isFew) {
  const trouble = ofService(service);
  const level = trouble[0]?.level ?? "good";
  const lately = service.traffic?.windows?.["10s"] ?? {};
  const on = Boolean(service.maintenance);
  const path = `/services/${encodeURIComponent(service.service)}/maintenance`;
  const what = on
    ? { title: "End maintenance?", text: `${service.service} serves everybody again.`, verb: "End maintenance", method: "DELETE", path, done: `Maintenance of ${service.service} is over.` }
    : { title: "Begin maintenance?", text: `Clients of ${service.service} get its maintenance page, except those it serves all the same.`, verb: "Begin maintenance", method: "PUT", path, done: `${service.service} is in maintenance.`, grave: true };
  const ratio = lately.error_ratio;
  const name = `service-${service.service}`;
  return h("article", { key: service.service, id: name, class: `card ${level}`, "aria-labelledby": `${name}-name`, tabindex: "-1" },
    h("header", { key: "head" },
      h("h3", { id: `${name}-name` }, h("bdi", null, service.service)),
      h("span", { class: `badge ${level}` }, trouble.length ? trouble[0].text : "fine"),
      trouble.length > 1 && h("span", { key: "more", class: "more" }, `and ${trouble.length - 1} more`),
      h("button", { key: "maintain", type: "button", class: "small", "aria-label": `${what.verb} of ${service.service}`, onclick: () => act(what) }, on ? "End maintenance" : "Maintenance")),
    h("dl", { key: "rates", class: "rates" },
      figure(number(lately.requests_per_second), "/s", "Requests"),
      figure(percent(ratio), "", "Errors", ratio > 0.05 ? "bad" : ratio > 0.01 ? "warn" : ""),
      figure(millis(lately.latency_ms?.p50), "", "Half within"),
      figure(millis(lately.latency_ms?.p99), "", "99 of 100 within")),
    chart(points, service.service),
    h("ul", { key: "probes", class: "probes", "aria-label": `Probes of ${service.service}` }, (service.probes ?? []).map((one) => probe(one, now))),
    slots(service, act),
    servers(service, act, isFew),
  );
}

// `look`: what people chose to see (a word in the name, only trouble), kept by whoever calls.
export function services(status, series, act, look, again) {
  const all = status.services ?? [];
  const shown = all.filter((service) => service.service.toLowerCase().includes(look.word.toLowerCase()) && (!look.trouble || ofService(service).length));
  const choose = (change) => again(Object.assign(look, change));
  return h("section", { key: "services", "aria-labelledby": "services-name" },
    h("div", { class: "title" },
      h("h2", { id: "services-name" }, "Services"),
      h("span", { class: "how-many" }, shown.length === all.length ? number(all.length) : `${shown.length} of ${all.length}`),
      all.length > 5 && h("div", { key: "look", class: "look" },
        h("label", { class: "hidden", for: "word" }, "Part of a name"),
        h("input", { id: "word", type: "search", placeholder: "Part of a name", oninput: (event) => choose({ word: event.target.value }) }),
        h("label", null, h("input", { type: "checkbox", onchange: (event) => choose({ trouble: event.target.checked }) }), " only trouble"))),
    shown.length
      ? h("div", { key: "cards", class: "cards" }, shown.map((service) => card(service, series.get(service.service) ?? [], status.time, act, all.length < 5)))
      : h("p", { key: "none", class: "none" }, all.length ? "No service is like that." : "The configuration has no services."));
}
