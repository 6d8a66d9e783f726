// The frame: which view is shown, when it is asked for anew, and what is said when nobody answers.

import { Refused, Silent, readAddress, setKey } from "./api.js";
import { el, fill } from "./dom.js";
import { RunView } from "./run.js";
import { Runs } from "./runs.js";

const EVERY = 1500;
const main = document.getElementById("main");
const banner = document.getElementById("banner");
const live = document.getElementById("live");

let view;
let shownRun;
let round = 0;
let wasAway = false;

function say(kind, ...words) {
  banner.className = kind;
  fill(banner, ...words);
  banner.hidden = !words.length;
}

function tell(state) {
  live.dataset.state = state;
  live.textContent = state;
}

function show(next) {
  view = next;
  document.title = `${view.title} | Loops`;
  main.replaceChildren(view.element);
}

function route() {
  const { run } = readAddress();
  if (!view || run !== shownRun || view instanceof Locked) show(run ? new RunView(run) : new Runs());
  shownRun = run;
  start();
}

// One chain of refreshes at a time; a newer one ends the older.
async function start() {
  const mine = ++round;
  while (mine === round && !document.hidden) {
    await refresh(mine);
    if (view instanceof Locked) return;
    await new Promise((done) => setTimeout(done, EVERY));
  }
  if (mine === round) tell("paused");
}

async function refresh(mine) {
  try {
    const { baseModel } = await view.refresh();
    if (mine !== round) return;
    document.getElementById("base-model").textContent = baseModel;
    tell("live");
    say(wasAway ? "good" : "", ...(wasAway ? ["The deployment is back."] : []));
    wasAway = false;
  } catch (error) {
    if (mine !== round) return;
    failed(error);
  }
}

function failed(error) {
  if (error instanceof Refused && error.status === 401) return lock();
  if (error instanceof Refused && error.status === 404) return gone(error);
  if (!(error instanceof Refused || error instanceof Silent)) {
    say("bad", "This page is at fault; reload it.");
    throw error;
  }
  wasAway = true;
  tell("not answering");
  say("bad", el("strong", {}, "The deployment does not answer"), ` (${error.message}). What you see is how it was; this page goes on as soon as it is back.`);
}

function gone(error) {
  tell("live");
  say("bad", `${error.message}. `, el("a", { href: "#" }, "All runs"));
}

// ---------------------------------------------------------------- without a key

class Locked {
  constructor() {
    this.title = "Key wanted";
    const key = el("input", { id: "key", type: "password", autocomplete: "off", required: true });
    const form = el("form", {}, el("div", { class: "field" }, el("label", { for: "key" }, "Key"), key), el("button", { type: "submit", class: "primary" }, "Open"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      setKey(key.value);
      say("");
      route();
    });
    this.element = el("section", { class: "locked" }, el("h1", {}, "This page needs the deployment's key"), how(), form);
  }
}

function how() {
  return el("ul", {},
    el("li", {}, "Open the address that ", el("code", {}, "loops serve"), " prints: the key is at its end."),
    el("li", {}, "In Python it is ", el("code", {}, "stack.page_url"), "."),
    el("li", {}, "A deployment with a data directory keeps its key there, in the file ", el("code", {}, "api_key"), "."));
}

function lock() {
  const had = Boolean(sessionStorage.getItem("loops-key"));
  tell("locked");
  say(had ? "bad" : "", ...(had ? ["The key is wrong: it belongs to another deployment, or to one that was started anew."] : []));
  show(new Locked());
}

addEventListener("hashchange", route);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the fragment is the page's own
  main.focus();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !(view instanceof Locked)) start();
});
route();
