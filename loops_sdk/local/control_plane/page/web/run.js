// One run: what it is, its curves, its operations, its checkpoints, and the box to sample from them.

import { ask, ofRun } from "./api.js";
import { Checkpoints } from "./checkpoints.js";
import { Curves } from "./curves.js";
import { el, fill } from "./dom.js";
import { ago, moment, number } from "./format.js";
import { Operations } from "./operations.js";
import { badge, named } from "./runs.js";
import { SampleBox } from "./sampling.js";

export class RunView {
  constructor(id) {
    this.title = `Run ${id}`;
    this.id = id;
    this.box = new SampleBox(id);
    this.checkpoints = new Checkpoints(id, (path) => this.box.choose(path));
    this.curves = new Curves(id);
    this.operations = new Operations(id);
    this.head = el("div", { class: "head" }, el("h1", {}, id));
    this.facts = el("dl", { class: "facts" });
    this.element = el("article", {}, el("a", { href: "#", class: "back" }, "← all runs"), this.head, this.facts,
      this.curves.element,
      el("div", { class: "columns" }, this.checkpoints.element, this.box.element),
      this.operations.element);
  }

  async refresh() {
    const { run, now } = await ask(ofRun(this.id));
    fill(this.head, el("h1", {}, run.id, " ", named(run) ? el("span", { class: "dim" }, run.name) : null), badge(run.state));
    fill(this.facts, facts(run, now).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
    await Promise.all([this.curves.refresh(), this.operations.refresh(now), this.checkpoints.refresh(now)]);
    this.box.offer(run.state === "RUNNING" && run.published_version != null, this.checkpoints.list);
    return { baseModel: run.base_model };
  }
}

function facts(run, now) {
  const sampler = run.sampler_state == null ? "none" : run.sampler_state.toLowerCase().replaceAll("_", " ");
  return [
    ["Policy version", number(run.policy_version)],
    ["Sampler serves", run.published_version == null ? "nothing published" : `version ${run.published_version}`],
    ["Sampler", sampler],
    ["Rank", number(run.rank)],
    ["Base model", el("span", { class: "mono" }, run.base_model)],
    ["Created", moment(run.created_at)],
    run.ended_at == null ? ["Last activity", ago(run.last_activity, now)] : ["Ended", moment(run.ended_at)],
  ];
}
