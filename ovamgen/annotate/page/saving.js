// Saves the mask of one sample while it is painted: soon after a stroke, one request at a time.

import * as server from "./server.js";

const PAUSE_MS = 400, RETRY_MS = 3000;

export class Saver {
  #chain = Promise.resolve(true);
  #timer = 0;
  #painted = 0;
  #saved = 0;
  #opened = 0;

  // onAnswer(key, answer): saved. onState(state, message): "saved", "saving", "unsaved", "failed".
  // onStale(message): another change came first.
  constructor({ onAnswer, onState, onStale }) {
    Object.assign(this, { onAnswer, onState, onStale, key: null, version: null, mask: null, stale: null });
  }

  get pending() { return this.#painted !== this.#saved; }

  open(key, version, mask) {
    clearTimeout(this.#timer);
    this.#painted = this.#saved = 0;
    this.#opened++;
    Object.assign(this, { key, version, mask, stale: null });
    this.onState(mask ? "saved" : "", "");
  }

  touch() {
    this.#painted++;
    if (this.stale) return;
    this.onState("unsaved", "");
    this.#later(PAUSE_MS);
  }

  // Everything painted so far is saved; false where that cannot be had.
  flush() {
    clearTimeout(this.#timer);
    this.#chain = this.#chain.catch(() => false).then(() => this.#save());
    return this.#chain;
  }

  // A change of another kind, after what was painted: `send(key, version)`.
  async change(send) {
    if (!await this.flush()) return null;
    this.#chain = this.#chain.then(() => this.#send(send));
    return this.#chain;
  }

  // Replaces what came first by what stands here.
  async keepMine() {
    this.version = (await server.getAnnotation(this.key).catch((error) => error)).version ?? this.version;
    this.stale = null;
    this.#painted++;
    return this.flush();
  }

  async #save() {
    while (this.pending) {
      if (this.stale) {
        this.onStale(this.stale);
        return false;
      }
      const now = this.#painted, opened = this.#opened;
      const png = await this.mask.toPng();
      if (!await this.#send((key, version) => server.putAnnotation(key, png, version))) return false;
      if (opened !== this.#opened) return false;
      this.#saved = now;
    }
    if (this.mask) this.onState("saved", "");
    return true;
  }

  // The answer, or false; an answer that comes after the sample was opened anew changes nothing.
  async #send(request) {
    const { key } = this, opened = this.#opened;
    this.onState("saving", "");
    try {
      const answer = await request(key, this.version);
      this.onAnswer(key, answer);
      if (opened !== this.#opened) return false;
      this.version = answer.version;
      if (!this.pending) this.onState("saved", "");
      return answer;
    } catch (error) {
      if (!(error instanceof server.Refused)) throw error;
      if (opened !== this.#opened) return false;
      this.onState("failed", error.message);
      if (error.stale) this.onStale(this.stale = error.message);
      else if (error.gone && this.pending) this.#later(RETRY_MS);
      return false;
    }
  }

  #later(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), milliseconds);
  }
}
