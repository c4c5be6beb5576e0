// What the page says in words: the sample, its state, the counts, and notices with choices.

import { STATES } from "./strip.js";

export const $ = (id) => document.getElementById(id);
const SAVED = { saved: "Saved", saving: "Saving…", unsaved: "Not saved yet", failed: "Not saved", "": "" };

// choices: [label, what runs].
export function notice(text, ...choices) {
  $("notice").replaceChildren();
  $("notice").hidden = !text;
  if (!text) return;
  const words = document.createElement("span");
  words.textContent = text;
  $("notice").append(words, ...choices.map(([label, run]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.addEventListener("click", () => { notice(null); run(); });
    return button;
  }));
}

export function showSaved(state) {
  $("saved").dataset.state = state;
  $("saved").textContent = SAVED[state];
}

export function showCounts({ total, annotated, left_out: leftOut }) {
  $("progress").max = Math.max(1, total - leftOut);
  $("progress").value = annotated;
  $("count").textContent = `${annotated} of ${total} annotated${leftOut ? `, ${leftOut} left out` : ""}`;
}

export function showSample(sample, { isFirst, isLast }) {
  document.title = `${sample.phrase} – Annotate`;
  $("phrase").textContent = sample.phrase;
  $("prompt").textContent = sample.prompt;
  $("key").textContent = sample.key;
  $("size").textContent = "";
  $("previous").disabled = isFirst;
  $("next").disabled = isLast;
}

export function showState(state) {
  const out = state === "left_out";
  $("state").textContent = STATES[state];
  $("leave").setAttribute("aria-pressed", out);
  $("leave").textContent = out ? "Left out" : "Leave out";
}

export function showTool({ active, usable, canUndo, canRedo, hint }) {
  for (const name of ["brush", "eraser", "polygon", "hand"]) $(name).setAttribute("aria-pressed", active === name);
  $("stage").dataset.tool = usable ? active : "none";
  $("undo").disabled = !canUndo;
  $("redo").disabled = !canRedo;
  $("clear").disabled = $("leave").disabled = !usable;
  $("hint").textContent = hint;
}
