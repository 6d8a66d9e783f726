// The operations of a run: a strip of the last ones in time, and all of them in a table, newest first.

import { ask, ofRun } from "./api.js";
import { el, fill, svg } from "./dom.js";
import { clock, duration, number } from "./format.js";

const LANES = { forward: "pass", forward_backward: "pass", optim_step: "step" };
const NAMES = ["pass", "step", "state"];
const TITLES = { pass: "passes", step: "steps", state: "saves, loads" };
const WIDTH = 1000;
const LANE = 22;
const LEFT = 92;

export class Operations {
  constructor(id) {
    this.id = id;
    this.older = [];
    this.queue = el("span", { class: "dim" });
    this.strip = svg("svg", { class: "strip", viewBox: `0 0 ${WIDTH} ${NAMES.length * LANE + 18}`, role: "img" });
    this.body = el("tbody");
    this.more = el("button", { type: "button", hidden: true, onclick: () => this.readOlder() }, "Show older operations");
    const heads = ["Operation", "State", "Finished", "Waited", "Took", "Result"];
    this.element = el("section", { "aria-labelledby": "operations" },
      el("h2", { id: "operations" }, "Operations ", this.queue), this.strip,
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "operations" },
        el("table", { class: "operations" }, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))), this.body)),
      this.more);
  }

  async refresh(now) {
    const told = await ask(ofRun(this.id, "/operations?limit=50"));
    if (!this.older.length) this.cursor = told.older;
    const newest = [...told.unfinished.map(withState).reverse(), ...told.operations.map(withState)];
    const known = new Set(newest.map((one) => one.id));
    const rest = this.older.filter((one) => !known.has(one.id));
    this.queue.textContent = told.queued ? `${told.queued} waiting` : "";
    this.drawStrip(newest.filter((one) => one.started_at != null), now);
    fill(this.body, [...newest, ...rest].map(row));
    this.more.hidden = this.cursor == null;
  }

  // What scrolls out of the first page between two refreshes would leave a gap, so the pages overlap by reading anew.
  async readOlder() {
    this.more.disabled = true;
    try {
      const told = await ask(ofRun(this.id, `/operations?limit=200&before=${this.cursor}`));
      this.older.push(...told.operations.map(withState));
      this.cursor = told.older;
      this.body.append(...told.operations.map(withState).map(row));
    } finally {
      this.more.disabled = false;
      this.more.hidden = this.cursor == null;
    }
  }

  drawStrip(operations, now) {
    this.strip.toggleAttribute("hidden", !operations.length);
    if (!operations.length) return;
    const ends = operations.map((one) => one.finished_at ?? now);
    const [from, to] = [Math.min(...operations.map((one) => one.started_at)), Math.max(...ends)];
    const x = (time) => LEFT + ((time - from) / Math.max(to - from, 0.001)) * (WIDTH - LEFT);
    const bars = operations.map((one, index) => this.bar(one, x(one.started_at), x(ends[index])));
    const labels = NAMES.map((lane, index) => svg("text", { x: 0, y: index * LANE + 15 }, TITLES[lane]));
    const bottom = NAMES.length * LANE + 14;
    this.strip.replaceChildren(...labels, ...bars, svg("text", { x: LEFT, y: bottom }, clock(from)),
      svg("text", { x: WIDTH, y: bottom, "text-anchor": "end" }, clock(to)));
    this.strip.setAttribute("aria-label", `the last ${operations.length} operations, within ${duration(to - from)}`);
  }

  bar(one, from, to) {
    const lane = LANES[one.operation] ?? "state";
    const place = { x: from, y: NAMES.indexOf(lane) * LANE + 3, width: Math.max(2, to - from), height: LANE - 6, rx: 2 };
    const title = svg("title", {}, `${one.operation}, ${one.state}, ${took(one)}`);
    return svg("rect", { ...place, class: `bar ${lane} ${one.state}` }, title);
  }
}

function withState(one) {
  const finished = one.error != null ? "failed" : "done";
  return { ...one, state: one.finished_at != null ? finished : one.started_at != null ? "running" : "queued" };
}

const took = (one) => duration(one.finished_at != null && one.started_at != null ? one.finished_at - one.started_at : null);
const waited = (one) => duration(one.accepted_at != null && one.started_at != null ? one.started_at - one.accepted_at : null);

function row(one) {
  return el("tr", { "data-state": one.state },
    el("td", { class: "mono" }, one.operation ?? ""), el("td", {}, el("span", { class: `badge ${one.state}` }, one.state)),
    el("td", {}, clock(one.finished_at)), el("td", {}, waited(one)), el("td", {}, took(one)), el("td", { class: "result" }, result(one)));
}

function result(one) {
  if (one.error != null) return one.error;
  if (one.path != null) return `${one.path}, policy version ${one.policy_version}`;
  const parts = [];
  if (one.loss != null) parts.push(one.tokens ? `loss ${number(one.loss / one.tokens)} per token` : `loss ${number(one.loss)}`);
  if (one.grad_norm != null) parts.push(`grad norm ${number(one.grad_norm)}`);
  if (one.policy_version != null) parts.push(`policy version ${one.policy_version}`);
  return parts.join(", ");
}
