// All curves of a run: reads the rows that are new, and draws a chart for each number there is.

import { ask, ofRun } from "./api.js";
import { Chart } from "./chart.js";
import { el } from "./dom.js";

const FIRST = ["loss", "reward", "grad_norm", "kl_sampler_trainer", "tokens_per_second", "sampled_tokens_per_second",
  "staleness", "learning_rate"];
const NOT_DRAWN = new Set(["step", "time", "policy_version", "tokens"]);
const MOST_CHARTS = 24;
const MOST_STEPS = 100_000;
const MOST_PIECES = 40;

export class Curves {
  constructor(id) {
    this.id = id;
    this.steps = new Map();
    this.charts = new Map();
    this.source = null;
    this.offset = 0;
    this.grid = el("div", { class: "charts" });
    this.note = el("p", { class: "dim" }, "No step has been done yet.");
    this.element = el("section", { "aria-labelledby": "curves" }, el("h2", { id: "curves" }, "Curves"), this.note, this.grid);
  }

  async refresh() {
    let changed = false;
    for (let piece = 0; piece < MOST_PIECES; piece++) {
      const query = new URLSearchParams({ offset: this.offset, ...(this.source && { source: this.source }) });
      const told = await ask(ofRun(this.id, `/metrics?${query}`));
      if (told.restart) this.steps.clear();
      Object.assign(this, { source: told.source, offset: told.offset });
      for (const row of told.rows) this.take(row);
      changed ||= told.restart || told.rows.length > 0;
      if (!told.more) break;
    }
    if (changed) this.draw();
  }

  // Rows of one step belong together, whoever wrote them.
  take(row) {
    this.steps.set(row.step, { ...this.steps.get(row.step), ...row });
    if (this.steps.size > MOST_STEPS) this.steps.delete(this.steps.keys().next().value);
  }

  draw() {
    const rows = [...this.steps.values()].sort((one, other) => one.step - other.step);
    const names = drawn(rows);
    for (const name of names) {
      if (!this.charts.has(name)) this.charts.set(name, new Chart(name));
      this.charts.get(name).draw(rows.filter((row) => name in row).map((row) => [row.step, row[name]]));
    }
    const wanted = names.map((name) => this.charts.get(name).element);
    if (wanted.some((element, index) => this.grid.children[index] !== element) || wanted.length !== this.grid.children.length) {
      this.grid.replaceChildren(...wanted);
    }
    this.note.textContent = rows.length ? told(this.source, rows) : "No step has been done yet.";
  }
}

function drawn(rows) {
  const there = new Set(rows.flatMap((row) => Object.keys(row)).filter((name) => !NOT_DRAWN.has(name)));
  const others = [...there].filter((name) => !FIRST.includes(name)).sort();
  return [...FIRST.filter((name) => there.has(name)), ...others].slice(0, MOST_CHARTS);
}

function told(source, rows) {
  const steps = `${rows.length} ${rows.length === 1 ? "step" : "steps"}`;
  return source === "metrics" ? `${steps}, from the metrics of the training script`
    : `${steps}, from the trainer's own results; LOOPS_METRICS_DIR, as loops serve prints it, lets a script add its metrics`;
}
