// Asks, shows the answer while it is sampled, sends feedback, and shows what is learned of it.

const find = (id) => document.getElementById(id);
const waiting = new Set(); // answers whose feedback is in no policy yet, with the version it was given at

// ---------------------------------------------------------------- asking

find("ask").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const field = find("question");
  const question = field.value.trim();
  if (!question) return;
  find("problem").textContent = "";
  try {
    const response = await post("/ask", { question });
    field.value = "";
    await show(question, response);
  } catch (error) {
    find("problem").textContent = error.message;
  }
});

async function show(question, response) {
  const item = find("answer").content.cloneNode(true).firstElementChild;
  const part = (name) => item.querySelector(`.${name}`);
  part("question").textContent = question;
  item.classList.add("streaming");
  find("answers").append(item);
  item.scrollIntoView({ block: "nearest" });
  let ended = false;
  try {
    for await (const [kind, data] of events(response.body)) {
      if (kind === "begin") part("note").textContent = `policy version ${data.policy_version}`;
      if (kind === "text") part("text").textContent += data.text;
      if (kind === "error") throw new Error(data.error);
      if (kind === "end") {
        ended = true;
        part("note").textContent = `policy version ${data.policy_versions.join(" and ")}`;
        takeFeedback(item, data.answer_id);
      }
    }
    if (!ended) throw new Error("the connection broke before the answer had ended");
  } catch (error) {
    part("note").textContent = error.message;
    item.classList.add("broken");
  } finally {
    item.classList.remove("streaming");
  }
}

/** Server-sent events of a response; EventSource can only GET. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (text + value).split("\n\n");
    text = whole.pop();
    for (const event of whole) {
      const [, kind, data] = event.match(/^event: (.*)\ndata: (.*)$/);
      yield [kind, JSON.parse(data)];
    }
  }
}

// ---------------------------------------------------------------- feedback

function takeFeedback(item, answerId) {
  const actions = item.querySelector(".actions");
  const form = item.querySelector(".correction");
  const opener = item.querySelector(".correct");
  const open = (yes) => {
    form.hidden = !yes;
    opener.setAttribute("aria-expanded", yes);
    (yes ? form.elements.correction : opener).focus();
  };
  actions.hidden = false;
  for (const thumb of item.querySelectorAll(".thumb"))
    thumb.addEventListener("click", async () => {
      if (await send(item, { answer_id: answerId, thumb: thumb.dataset.thumb })) {
        thumb.setAttribute("aria-pressed", true);
        for (const other of item.querySelectorAll(".thumb")) other.disabled = true;
      }
    });
  opener.addEventListener("click", () => open(form.hidden));
  item.querySelector(".cancel").addEventListener("click", () => open(false));
  form.addEventListener("keydown", (key) => {
    if (key.key === "Escape") open(false);
    if (key.key === "Enter" && !key.shiftKey) {
      key.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    if (await send(item, { answer_id: answerId, correction: form.elements.correction.value })) {
      form.hidden = true;
      opener.disabled = true;
      find("question").focus();
    }
  });
}

async function send(item, given) {
  const told = item.querySelector(".learned");
  try {
    const status = await (await post("/feedback", given)).json();
    waiting.add({ told, version: status.policy_version });
    told.textContent = "Thank you. It is being learned …";
    draw(status);
    return true;
  } catch (error) {
    told.textContent = error.message;
    return false;
  }
}

async function post(path, data) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(data) };
  const response = await fetch(path, options).catch(() => {
    throw new Error("the service cannot be reached");
  });
  if (!response.ok) throw new Error((await response.json()).error);
  return response;
}

// ---------------------------------------------------------------- what is learned

function draw(status) {
  find("version").textContent = status.policy_version;
  find("phase").textContent = status.phase;
  find("pending").textContent = status.pending;
  find("trouble").textContent = status.trouble;
  for (const [name, count] of Object.entries(status.counts)) find(`count-${name}`).textContent = count;
  curve(status.losses);
  for (const one of waiting)
    if (status.policy_version > one.version && status.pending === 0) {
      one.told.textContent = `Learned: it is in policy version ${status.policy_version}.`;
      waiting.delete(one);
    }
}

function curve(losses) {
  if (!losses.length) return;
  const top = Math.max(...losses.map(({ loss }) => loss), 0.1);
  const x = (index) => 4 + (292 * index) / Math.max(losses.length - 1, 1);
  const y = (loss) => 110 - (96 * loss) / top;
  const line = losses.map(({ loss }, index) => `${index ? "L" : "M"}${x(index)},${y(loss)}`).join("");
  find("curve").innerHTML = `<path d="${line}"/><text x="6" y="12">${top.toFixed(2)}</text>`;
  const last = losses[losses.length - 1];
  find("loss").textContent = `${last.loss.toFixed(3)} at step ${last.step}`;
}

async function watch() {
  try {
    draw(await (await fetch("/status")).json());
  } catch {
    find("phase").textContent = "the service cannot be reached";
  }
  setTimeout(watch, 500);
}

watch();
