// One curve over the optimizer steps: an SVG with two labelled axes, and the value under the pointer.

import { el, svg } from "./dom.js";
import { number } from "./format.js";

const WIDTH = 360;
const HEIGHT = 150;
const LEFT = 52;
const RIGHT = 10;
const TOP = 10;
const BOTTOM = 22;
const MOST_POINTS = 400;

export class Chart {
  constructor(title) {
    this.title = title;
    this.latest = el("span", { class: "latest" });
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    this.element = el("figure", { class: "chart", "data-curve": title },
      el("figcaption", {}, el("span", {}, title), this.latest), this.drawing);
    this.drawing.addEventListener("pointermove", (event) => this.point(event));
    this.drawing.addEventListener("pointerleave", () => this.rest());
  }

  // `points` are [step, value], in the order of the steps.
  draw(points) {
    this.points = thinned(points);
    this.last = points.at(-1);
    this.x = scale(this.points.map(([step]) => step), LEFT, WIDTH - RIGHT);
    this.y = scale(this.points.map(([, value]) => value), HEIGHT - BOTTOM, TOP);
    const line = this.points.map(([step, value]) => `${this.x(step).toFixed(1)},${this.y(value).toFixed(1)}`);
    this.mark = svg("g", { class: "mark" });
    this.drawing.replaceChildren(...this.axes(), svg("polyline", { class: "curve", points: line.join(" ") }),
      ...(line.length === 1 ? [this.dot(this.points[0])] : []), this.mark);
    this.drawing.setAttribute("aria-label", this.described());
    if (this.under == null) this.rest();
    else this.show(this.under);
  }

  axes() {
    const [low, high] = this.y.domain;
    const [first, last] = this.x.domain;
    const rule = (value) => svg("line", { class: "rule", x1: LEFT, x2: WIDTH - RIGHT, y1: this.y(value), y2: this.y(value) });
    const label = (text, x, y, anchor) => svg("text", { x, y, "text-anchor": anchor }, text);
    const levels = low === high ? [low] : [low, (low + high) / 2, high];
    return [
      ...levels.map(rule),
      ...levels.map((value) => label(number(value), LEFT - 6, this.y(value) + 3.5, "end")),
      label(`step ${number(first)}`, LEFT, HEIGHT - 6, "start"),
      ...(first === last ? [] : [label(number(last), WIDTH - RIGHT, HEIGHT - 6, "end")]),
    ];
  }

  described() {
    const [low, high] = this.y.domain;
    const [step, value] = this.last;
    return `${this.title}: ${number(value)} at step ${step}; between ${number(low)} and ${number(high)} so far`;
  }

  point(event) {
    const box = this.drawing.getBoundingClientRect();
    this.under = ((event.clientX - box.left) / box.width) * WIDTH;
    this.show(this.under);
  }

  show(x) {
    const distance = ([step]) => Math.abs(this.x(step) - x);
    const nearest = this.points.reduce((best, point) => (distance(point) < distance(best) ? point : best));
    const at = this.x(nearest[0]);
    this.mark.replaceChildren(svg("line", { x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }), this.dot(nearest));
    this.latest.textContent = `${number(nearest[1])} at step ${nearest[0]}`;
  }

  rest() {
    this.under = null;
    this.mark?.replaceChildren();
    this.latest.textContent = this.last ? number(this.last[1]) : "";
  }

  dot([step, value]) {
    return svg("circle", { class: "dot", cx: this.x(step), cy: this.y(value), r: 3.5 });
  }
}

function scale(values, from, to) {
  const low = values.reduce((least, value) => Math.min(least, value));
  const high = values.reduce((most, value) => Math.max(most, value));
  const place = (value) => (low === high ? (from + to) / 2 : from + ((value - low) / (high - low)) * (to - from));
  return Object.assign(place, { domain: [low, high] });
}

// More points than there are pixels are drawn as the means of neighbours.
function thinned(points) {
  const each = Math.ceil(points.length / MOST_POINTS);
  if (each === 1) return points;
  return Array.from({ length: Math.ceil(points.length / each) }, (_, index) => {
    const part = points.slice(index * each, (index + 1) * each);
    return [part.at(-1)[0], part.reduce((sum, [, value]) => sum + value, 0) / part.length];
  });
}
