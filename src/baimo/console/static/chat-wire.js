// How the chat reaches the endpoint: a credential that comes from the session, lives for ten minutes and only in memory.

let pass = null;

async function credential() {
  if (!pass || pass.until < Date.now()) {
    const answer = await fetch("/console/chat/admission", { method: "POST" });
    if (!answer.ok || answer.redirected) { location.reload(); throw new Error("signed out"); }
    const given = await answer.json();
    pass = { credential: given.credential, until: Date.now() + (given.seconds - 30) * 1000 };
  }
  return { authorization: `Bearer ${pass.credential}`, "accept-language": document.documentElement.lang };
}

/** What the API says no to, in the reader's words. */
export class Refused extends Error {
  constructor(status, error) {
    super([error?.message ?? `${status}`, error?.hint].filter(Boolean).join(" "));
    this.status = status;
  }
}

async function refused(answer) {
  const body = await answer.json().catch(() => ({}));
  return new Refused(answer.status, body.error);
}

/** One call of the API; its answer's JSON. */
export async function api(method, path, body) {
  const headers = await credential();
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (!answer.ok) throw await refused(answer);
  return answer.json();
}

/** A stream of server-sent events: its response's headers, and the values behind `data:`. */
export async function streamed(path, body, signal) {
  const headers = { ...(await credential()), "content-type": "application/json" };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!answer.ok) throw await refused(answer);
  return { headers: answer.headers, events: events(answer.body) };
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:") && line.slice(5).trim() !== "[DONE]") yield JSON.parse(line.slice(5));
    }
  }
}

/** The line of the ledger that a call has, once it is there; null where one may not look. */
export async function record(id) {
  const answer = id ? await fetch(`/console/chat/record/${id}`, { method: "POST" }) : null;
  return answer?.ok && !answer.redirected ? answer.json() : null;
}
