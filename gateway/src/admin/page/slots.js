// The slots of a service: which of them its clients get, and the switch between them.

import { h } from "./dom.js";
import { number } from "./words.js";

export function slots(service, act) {
  const all = service.slots ?? [];
  if (!all.length) return null;
  const name = service.service;
  const path = `/services/${encodeURIComponent(name)}/switch`;
  const goes = all.some((slot) => slot.percent > 0 && slot.percent < 100);
  const to = (slot) => ({ title: `Switch ${name} to ${slot}?`, text: `Every server of ${slot} is asked first. Then all clients get it, and it is watched: if it does worse, everything goes back by itself.`, verb: "Switch", method: "PUT", path: `${path}?to=${encodeURIComponent(slot)}`, done: `The switch to ${slot} begins.` });
  const back = { title: `Take the switch of ${name} back?`, text: "All clients get the slot before again.", verb: "Take back", method: "DELETE", path, done: "The switch is taken back.", grave: true };
  return h("ul", { key: "slots", class: "slots", "aria-label": `Slots of ${name}` },
    all.map((slot) => h("li", { key: slot.slot },
      h("span", { class: `badge ${slot.percent ? "good" : "note"}` }, h("bdi", null, slot.slot), ` ${slot.percent} %`),
      h("span", { class: "why" }, `${number(slot.in_flight)} in flight, ${number(slot.errors)} of ${number(slot.requests)} failed`),
      !goes && slot.percent === 0 && h("button", { key: "to", type: "button", class: "small", "aria-label": `Switch ${name} to ${slot.slot}`, onclick: () => act(to(slot.slot)) }, "Switch"))),
    goes && h("li", { key: "back" }, h("button", { type: "button", class: "small", "aria-label": `Take back the switch of ${name}`, onclick: () => act(back) }, "Take back")));
}
