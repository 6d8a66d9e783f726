// Asking the deployment. The key comes in the fragment of the page's address, which browsers do not send, and stays in
// this tab. Every question has a deadline.

const DEADLINE = 10_000;
const KEY = "loops-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// Nobody answered at all: the deployment is down, or on its way back.
export class Silent extends Error {}

// Takes the key out of the address, so that it is neither seen nor bookmarked; gives what else stands there.
export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.has("key")) {
    setKey(given.get("key"));
    given.delete("key");
    history.replaceState(null, "", `#${given}`);
  }
  return { run: given.get("run") };
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key.trim());
}

export async function ask(path, { body, deadline = DEADLINE } = {}) {
  const options = {
    headers: { Authorization: `Bearer ${sessionStorage.getItem(KEY) ?? ""}` },
    signal: AbortSignal.timeout(deadline),
    cache: "no-store",
  };
  if (body !== undefined) Object.assign(options, { method: "POST", body: JSON.stringify(body) });
  let response, said;
  try {
    response = await fetch(`/local/v1${path}`, options);
    said = await response.json();
  } catch (error) {
    throw new Silent(error.name === "TimeoutError" ? "it did not answer in time" : "it cannot be reached");
  }
  if (!response.ok) throw new Refused(response.status, said.message ?? `it answered ${response.status}`);
  return said;
}

export const ofRun = (id, what = "") => `/runs/${encodeURIComponent(id)}${what}`;
