// The box to sample from: which weights, what to say to them, and what they answered.

import { ask, ofRun, Refused, Silent } from "./api.js";
import { el } from "./dom.js";

const DEADLINE = 130_000;
const LOOK_AGAIN = 1000;

export class SampleBox {
  constructor(id) {
    this.id = id;
    this.messages = [];
    this.model = el("select", { id: "model", name: "model" });
    this.prompt = el("textarea", { id: "prompt", name: "prompt", rows: 4, required: true, placeholder: "What should it go on with?" });
    this.temperature = el("input", { id: "temperature", type: "number", min: 0, max: 10, step: 0.1, value: 0.7, required: true });
    this.tokens = el("input", { id: "max-tokens", type: "number", min: 1, max: 100000, step: 1, value: 64, required: true });
    this.chat = el("input", { type: "radio", name: "form", value: "chat", id: "as-chat" });
    this.text = el("input", { type: "radio", name: "form", value: "text", id: "as-text", checked: true });
    this.button = el("button", { type: "submit", class: "primary" }, "Sample");
    this.status = el("p", { class: "dim", role: "status" });
    this.log = el("ol", { class: "log", "aria-label": "answers", "aria-live": "polite" });
    this.clear = el("button", { type: "button", hidden: true, onclick: () => this.forget() }, "Clear");
    this.element = el("section", { "aria-labelledby": "sample" }, el("h2", { id: "sample" }, "Sample"), this.form(), this.log, this.clear);
  }

  form() {
    const labelled = (text, input) => el("div", { class: "field" }, el("label", { for: input.id }, text), input);
    const form = el("form", { class: "sample" },
      labelled("Weights", this.model),
      el("fieldset", {}, el("legend", {}, "Prompt as"), el("label", {}, this.text, "plain text"), el("label", {}, this.chat, "chat")),
      labelled("Prompt", this.prompt),
      el("div", { class: "row" }, labelled("Temperature", this.temperature), labelled("Most tokens", this.tokens), this.button),
      this.status);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.sample();
    });
    this.prompt.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    return form;
  }

  // What there is to choose; what is chosen stays chosen.
  offer(current, checkpoints) {
    const options = [
      ...(current ? [["current", "current weights of the sampler"]] : []),
      ["base", "base model, untrained"],
      ...checkpoints.map((one) => [one.path, `${one.name} (${one.target}), policy version ${one.policy_version}`]),
    ];
    const key = JSON.stringify(options);
    if (key === this.offered) return;
    const chosen = this.model.value;
    this.offered = key;
    this.model.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
    if (options.some(([value]) => value === chosen)) this.model.value = chosen;
  }

  choose(path) {
    this.model.value = path;
    this.prompt.focus();
    this.element.scrollIntoView({ block: "nearest" });
  }

  async sample() {
    const said = this.prompt.value;
    const chat = this.chat.checked;
    const messages = [...this.messages, { role: "user", content: said }];
    const weights = this.model.selectedOptions[0].textContent;
    const body = { model: this.model.value, prompt: chat ? messages : said, temperature: this.temperature.valueAsNumber, max_tokens: this.tokens.valueAsNumber };
    this.button.disabled = true;
    this.status.className = "dim";
    this.status.textContent = "sampling…";
    try {
      const answer = await this.answered(body);
      if (chat) {
        this.messages = [...messages, { role: "assistant", content: answer.text }];
        this.prompt.value = "";
      }
      this.add(said, answer, weights, chat);
      this.status.textContent = "";
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Silent)) throw error;
      this.status.className = "wrong";
      this.status.textContent = `It did not work: ${error.message}`;
    } finally {
      this.button.disabled = false;
    }
  }

  // Asks until a sampler that is starting is there.
  async answered(body) {
    const end = Date.now() + DEADLINE;
    while (Date.now() < end) {
      const answer = await ask(ofRun(this.id, "/sample"), { body, deadline: DEADLINE });
      if (answer.state === "done") return answer;
      this.status.textContent = "a sampler is starting…";
      await new Promise((done) => setTimeout(done, LOOK_AGAIN));
    }
    throw new Silent(`no sampler came up within ${DEADLINE / 1000} s`);
  }

  add(said, answer, weights, chat) {
    const facts = `${weights}; answered by policy version ${answer.policy_version}; ${answer.completion_tokens} tokens, ` +
      (answer.finish_reason === "stop" ? "ended by itself" : "cut at the limit");
    const spoken = chat ? [el("span", { class: "said" }, said), el("span", { class: "answer" }, answer.text)]
      : [el("span", {}, said), el("mark", { class: "answer" }, answer.text)];
    this.log.prepend(el("li", { class: chat ? "chat" : "plain" }, el("div", { class: "spoken" }, spoken), el("div", { class: "dim small" }, facts)));
    this.clear.hidden = false;
  }

  forget() {
    this.messages = [];
    this.log.replaceChildren();
    this.clear.hidden = true;
  }
}
