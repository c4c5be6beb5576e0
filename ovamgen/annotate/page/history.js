// What can be undone: the changed rectangle of each step, before and after, up to 64 MB in all.

const LARGEST_BYTES = 64 * 2 ** 20;

export class History {
  #done = [];
  #undone = [];
  #bytes = 0;

  get canUndo() { return this.#done.length > 0; }
  get canRedo() { return this.#undone.length > 0; }

  // `before` is a copy of the whole mask's data from before the step.
  push(mask, before, rect) {
    const step = { rect, before: mask.copy(rect, before), after: mask.copy(rect) };
    if (step.before.every((value, i) => value === step.after[i])) return false;
    this.#undone = [];
    this.#done.push(step);
    this.#bytes = this.#done.reduce((sum, { before: part }) => sum + 2 * part.length, 0);
    while (this.#bytes > LARGEST_BYTES && this.#done.length > 1) {
      this.#bytes -= 2 * this.#done.shift().before.length;
    }
    return true;
  }

  undo(mask) { return this.#move(mask, this.#done, this.#undone, "before"); }
  redo(mask) { return this.#move(mask, this.#undone, this.#done, "after"); }

  #move(mask, from, to, side) {
    const step = from.pop();
    if (!step) return null;
    mask.put(step.rect, step[side]);
    to.push(step);
    return step.rect;
  }
}
