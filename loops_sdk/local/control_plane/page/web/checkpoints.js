// The checkpoints of a run, newest first, each with a button that puts it into the sample box.

import { ask, ofRun } from "./api.js";
import { el, fill } from "./dom.js";
import { ago, bytes, moment } from "./format.js";

const KINDS = { trainer: "weights and optimizer", sampler: "weights for sampling" };

export class Checkpoints {
  // `choose` is called with the address of the checkpoint to sample from.
  constructor(id, choose) {
    this.id = id;
    this.choose = choose;
    this.list = [];
    this.items = el("ul", { class: "checkpoints" });
    this.items.addEventListener("click", (event) => {
      const path = event.target.closest("button")?.dataset.path;
      if (path) this.choose(path);
    });
    this.element = el("section", { "aria-labelledby": "checkpoints" }, el("h2", { id: "checkpoints" }, "Checkpoints"), this.items);
  }

  async refresh(now) {
    const told = await ask(ofRun(this.id, "/checkpoints?limit=100"));
    this.list = told.checkpoints;
    const hidden = told.total - told.checkpoints.length;
    fill(this.items, told.checkpoints.map((one) => item(one, now)),
      hidden > 0 ? el("li", { class: "dim" }, `${hidden} older ones are not shown`) : null,
      told.total ? null : el("li", { class: "empty" }, "Nothing has been saved yet."));
  }
}

function item(one, now) {
  const expires = one.expires_at == null ? "" : `, kept until ${moment(one.expires_at)}`;
  return el("li", {},
    el("div", {}, el("strong", {}, one.name), " ", el("span", { class: "dim" }, KINDS[one.target] ?? one.target),
      el("div", { class: "mono small" }, one.path),
      el("div", { class: "dim small" }, `policy version ${one.policy_version}, ${bytes(one.size_bytes)}, saved ${ago(one.created_at, now)}${expires}`)),
    el("button", { type: "button", "data-path": one.path, "aria-label": `Sample from ${one.name}, ${KINDS[one.target]}` }, "Sample"));
}
