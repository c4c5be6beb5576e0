// What the page asks of its server; addresses are relative, so that each of them holds the token.

const BASE = new URL(".", location.href);

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  get stale() { return this.status === 412; }
  get gone() { return this.status === 0; }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(new URL(path, BASE), { cache: "no-store", ...options });
  } catch {
    throw new Refused(0, "The server does not answer. Is 'ovamgen annotate' still running?");
  }
  if (answer.ok) return answer;
  let message = `${answer.status} ${answer.statusText}`;
  try {
    message = (await answer.json()).error ?? message;
  } catch { /* no JSON: the status says it */ }
  const refused = new Refused(answer.status, message);
  refused.version = version(answer);
  throw refused;
}

const version = (answer) => answer.headers.get("ETag");

async function change(method, path, ifMatch, body) {
  const headers = { "If-Match": ifMatch };
  if (body) headers["Content-Type"] = "image/png";
  const answer = await ask(path, { method, headers, body });
  return { version: version(answer), ...await answer.json() };
}

export const getSamples = async () => (await ask("samples")).json();
export const imageAddress = (key) => new URL(`images/${key}`, BASE).href;
export const getImage = async (key) => createImageBitmap(await (await ask(`images/${key}`)).blob());

// {version, png}; png is null where nothing was painted.
export async function getAnnotation(key) {
  const answer = await ask(`annotations/${key}`);
  return { version: version(answer), png: answer.status === 204 ? null : await answer.blob() };
}

export const putAnnotation = (key, png, ifMatch) => change("PUT", `annotations/${key}`, ifMatch, png);
export const leaveOut = (key, ifMatch) => change("PUT", `left_out/${key}`, ifMatch);
export const takeIn = (key, ifMatch) => change("DELETE", `left_out/${key}`, ifMatch);
