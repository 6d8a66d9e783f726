// The list of runs.

import { ask } from "./api.js";
import { el, fill } from "./dom.js";
import { ago, moment, number } from "./format.js";

const HEADS = ["Run", "State", "Policy version", "Sampler serves", "Rank", "Base model", "Last activity"];

export class Runs {
  constructor() {
    this.title = "Runs";
    this.body = el("tbody");
    this.table = el("table", { class: "runs", hidden: true },
      el("thead", {}, el("tr", {}, HEADS.map((head) => el("th", { scope: "col" }, head)))), this.body);
    this.note = el("p", { class: "empty" }, "Looking for runs…");
    this.element = el("section", { "aria-labelledby": "runs" }, el("h1", { id: "runs" }, "Runs"), this.table, this.note);
  }

  async refresh() {
    const told = await ask("/runs?limit=100");
    this.table.hidden = !told.runs.length;
    fill(this.body, told.runs.map((run) => row(run, told.now)));
    const hidden = told.total - told.runs.length;
    fill(this.note, told.runs.length ? (hidden > 0 ? `${hidden} older runs are not shown.` : "") : nothingYet());
    return { baseModel: told.base_model };
  }
}

export const badge = (state) => el("span", { class: `badge ${state.toLowerCase()}` }, state.toLowerCase().replaceAll("_", " "));

function nothingYet() {
  return [el("span", {}, "No run yet. Point a script at this deployment with the lines that "), el("code", {}, "loops serve"),
    el("span", {}, " printed, and it appears here.")];
}

// A run without a name of its own has that of its base model.
export const named = (run) => run.name !== run.base_model;

function row(run, now) {
  const cells = [
    el("a", { href: `#${new URLSearchParams({ run: run.id })}` }, el("strong", {}, run.id), named(run) ? ` ${run.name}` : null),
    badge(run.state), number(run.policy_version), number(run.published_version), number(run.rank),
    el("span", { class: "mono" }, run.base_model), el("time", { title: moment(run.last_activity) }, ago(run.last_activity, now)),
  ];
  return el("tr", { "data-run": run.id }, cells.map((cell, index) => el("td", { "data-label": HEADS[index] }, cell)));
}
