// The row of small pictures: every sample with its state, and which one is open.

import { imageAddress } from "./server.js";

export const STATES = { to_do: "to do", annotated: "annotated", left_out: "left out" };

export class Strip {
  #buttons = new Map();
  #open = null;

  constructor(nav, samples, onChoose) {
    for (const sample of samples) {
      const button = document.createElement("button");
      const image = document.createElement("img");
      Object.assign(image, { src: imageAddress(sample.key), alt: "", loading: "lazy", draggable: false });
      button.type = "button";
      button.append(image);
      button.addEventListener("click", () => onChoose(sample.key));
      this.#buttons.set(sample.key, button);
      this.mark(sample);
    }
    nav.append(...this.#buttons.values());
  }

  mark(sample) {
    const button = this.#buttons.get(sample.key);
    button.dataset.state = sample.state;
    button.title = `${sample.phrase}: ${STATES[sample.state]} (${sample.key})`;
    button.ariaLabel = button.title;
  }

  open(key) {
    this.#open?.removeAttribute("aria-current");
    this.#open = this.#buttons.get(key);
    this.#open.setAttribute("aria-current", "true");
    this.#open.scrollIntoView({ block: "nearest", inline: "center" });
  }
}
