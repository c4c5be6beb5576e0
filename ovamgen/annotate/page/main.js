// Puts the parts together: which sample is open, and what the buttons and keys do to it.

import { History } from "./history.js";
import { describeKeys, isEnter, isRedo, isUndo, key, listenToKeys } from "./keys.js";
import { Mask } from "./mask.js";
import { $, notice, showCounts, showSample, showSaved, showState, showTool } from "./panel.js";
import { Saver } from "./saving.js";
import * as server from "./server.js";
import { Stage } from "./stage.js";
import { Strip } from "./strip.js";
import { Tools } from "./tools.js";
import { View } from "./view.js";

const POLYGON_HINT = "Click the corners; the first one, a double click or Enter closes. Alt takes away instead.";
const LEFT_OUT_HINT = "Left out. Painting takes it in again.";
const OPEN_POLYGON = "A polygon is open: Enter closes it, Esc drops it.";

let samples = [], strip = null, open = null, steps = new History(), ticket = 0;

const view = new View();
const stage = new Stage($("stage"), view);
const tools = new Tools(stage, (rect, before) => {
  if (steps.push(stage.mask, before, rect)) touched();
});
const saver = new Saver({
  onAnswer(name, { state, counts }) {
    const sample = samples.find((one) => one.key === name);
    sample.state = state;
    strip.mark(sample);
    showCounts(counts);
    if (sample === open) refresh();
  },
  onState(state, message) {
    showSaved(state);
    if (state === "saved") notice(null);
    else if (message) notice(message, ["Try again", () => saver.flush()]);
  },
  onStale(message) {
    notice(`${message[0].toUpperCase()}${message.slice(1)}.`,
      ["Show that one", () => show(open.key, true)], ["Keep mine", () => saver.keepMine()]);
  },
});

function refresh() {
  const leftOut = open?.state === "left_out";
  if (open) showState(open.state);
  stage.faint = leftOut;
  showTool({
    active: tools.active, usable: stage.mask !== null, canUndo: steps.canUndo, canRedo: steps.canRedo,
    hint: leftOut ? LEFT_OUT_HINT : tools.active === "polygon" ? POLYGON_HINT : "",
  });
  tools.refresh();
  stage.draw();
}

function touched() {
  saver.touch();
  refresh();
}

// Opens a sample once everything painted on the one before is saved; `anew` gives that up.
async function show(name, anew = false) {
  if (!anew && !await settled()) return;
  const mine = ++ticket, at = samples.findIndex((one) => one.key === name);
  open = samples[at];
  steps = new History();
  stage.show(null, null);
  saver.open(name, null, null);
  notice(null);
  history.replaceState(null, "", `#${name}`);
  strip.open(name);
  showSample(open, { isFirst: at === 0, isLast: at === samples.length - 1 });
  refresh();
  try {
    const [image, annotation] = await Promise.all([
      server.getImage(name), server.getAnnotation(name).catch((error) => error)]);
    if (annotation instanceof Error && !annotation.version) throw annotation;
    const { width, height } = image;
    const mask = annotation.png ? await Mask.fromPng(annotation.png, width, height) : new Mask(width, height);
    if (mine !== ticket) return;
    // the first sample says what a middling brush is
    if (!tools.diameter) resize(Math.min(width, height) / 12);
    stage.show(image, mask);
    saver.open(name, annotation.version, mask);
    $("size").textContent = `${width} × ${height}`;
    if (annotation instanceof Error) notice(`${annotation.message}. What you paint here replaces it.`);
  } catch (error) {
    if (mine !== ticket) return;
    notice(error.message, ["Try again", () => show(name, true)]);
  }
  tools.release();
  refresh();
}

// Nothing half painted, nothing unsaved, and nothing painted until the next sample is there.
async function settled() {
  if (!open || !stage.mask) return true;
  if (tools.busy) return false;
  if (tools.openPolygon) {
    notice(OPEN_POLYGON);
    return false;
  }
  tools.lock();
  const saved = await saver.flush();
  if (!saved) tools.release();
  return saved;
}

const step = (by) => {
  const next = samples[samples.indexOf(open) + by];
  if (next) show(next.key);
};

function toDo() {
  const at = samples.indexOf(open);
  // the first after this one, then the first of all
  const next = [...samples.slice(at + 1), ...samples.slice(0, at)].find((sample) => sample.state === "to_do");
  if (next) show(next.key);
  else if (open.state === "to_do" && !saver.pending) notice("This is the only one left to do.");
  else notice("Every sample is annotated or left out.");
}

function choose(name) {
  if (tools.openPolygon && name !== "polygon") {
    notice(OPEN_POLYGON);
    return;
  }
  tools.name = name;
  refresh();
}

const hold = (name) => (down) => {
  tools.held = down ? name : null;
  refresh();
};

function travel(way) {
  if (tools.openPolygon && way === "undo") return tools.dropVertex();
  if (!stage.mask || tools.busy) return;
  const rect = steps[way](stage.mask);
  if (!rect) return;
  stage.update(rect);
  touched();
}

function clear() {
  if (!stage.mask || tools.busy) return;
  const before = stage.mask.data.slice(), rect = stage.mask.clear();
  stage.update(rect);
  if (steps.push(stage.mask, before, rect)) touched();
}

function leave() {
  if (!stage.mask || tools.busy || tools.openPolygon) return;
  saver.change(open.state === "left_out" ? server.takeIn : server.leaveOut);
}

function hide(hidden) {
  stage.hidden = hidden;
  $("hide").setAttribute("aria-pressed", hidden);
  stage.draw();
}

function zoom(factor) {
  view.zoom(factor);
  tools.refresh();
  stage.draw();
}

function fit() {
  view.fit();
  tools.refresh();
  stage.draw();
}

// The slider is logarithmic: from 1 to 400 pixels of the image.
const LARGEST_PX = 400;

function resize(diameter) {
  tools.diameter = Math.min(LARGEST_PX, Math.max(1, Math.round(diameter)));
  $("radius").value = 100 * Math.log(tools.diameter) / Math.log(LARGEST_PX);
  $("diameter").textContent = `${tools.diameter} px`;
  tools.refresh();
}

const larger = () => resize(Math.max(tools.diameter + 1, tools.diameter * 1.2));
const smaller = () => resize(Math.min(tools.diameter - 1, tools.diameter / 1.2));

function enter(event) {
  tools.closePolygon(event.altKey);
  notice(null);
}
enter.urgent = () => tools.openPolygon;

function escape() {
  tools.dropPolygon();
  notice(null);
}

const entry = (shown, text, match, does, held = false) => ({ shown, text, match, does, hold: held });
const KEYS = [
  entry("B", "brush; the right button erases", key("b"), () => choose("brush")),
  entry("E", "eraser", key("e"), () => choose("eraser")),
  entry("P", "polygon", key("p"), () => choose("polygon")),
  entry("Enter", "close the polygon; with Alt take its inside away", isEnter, enter),
  entry("Esc", "drop the polygon", key("Escape"), escape),
  entry("[ ]", "smaller and larger brush", key("["), smaller),
  entry("Shift", "with the brush: a straight line from where it was last"),
  entry("Z", "undo (also Ctrl Z); in a polygon its last corner", isUndo, () => travel("undo")),
  entry("Y", "redo (also Ctrl Shift Z)", isRedo, () => travel("redo")),
  entry("Delete", "clear the mask", key("Delete"), clear),
  entry("← →", "previous and next sample", key("ArrowLeft"), () => step(-1)),
  entry("N", "first sample to do", key("n"), toDo),
  entry("L", "leave the sample out, or take it in again", key("l"), leave),
  entry("Space", "hold to move the image", key(" "), hold("hand"), true),
  entry("+ - 0", "zoom in, out, whole image; the wheel zooms too", key("+", "="), () => zoom(1.25)),
  entry("H", "hold to hide the mask", key("h"), hide, true),
  entry("C", "another colour for the mask", key("c"), recolour),
  entry("?", "these keys", key("?"), () => $("keys").showModal()),
];
const SECOND_KEYS = [
  entry("", "", key("]"), larger),
  entry("", "", key("ArrowRight"), () => step(1)),
  entry("", "", key("-"), () => zoom(0.8)),
  entry("", "", key("0"), fit),
  entry("", "", key("Backspace"), () => tools.dropVertex()),
];

function recolour() {
  document.documentElement.style.setProperty("--mask", stage.nextColour());
}

function listen() {
  const clicks = {
    brush: () => choose("brush"), eraser: () => choose("eraser"), polygon: () => choose("polygon"),
    hand: () => choose("hand"), undo: () => travel("undo"), redo: () => travel("redo"),
    closer: () => zoom(1.25), further: () => zoom(0.8), fit, hide: () => hide(!stage.hidden),
    colour: recolour, previous: () => step(-1), next: () => step(1), todo: toDo, leave, clear,
    help: () => $("keys").showModal(),
  };
  for (const [id, run] of Object.entries(clicks)) {
    $(id).addEventListener("click", (event) => {
      // a click of the mouse leaves the keys to the sheet
      if (event.detail) $("stage").focus({ preventScroll: true });
      run();
    });
  }
  $("radius").addEventListener("input", () => resize(LARGEST_PX ** ($("radius").value / 100)));
  $("radius").addEventListener("pointerup", () => $("stage").focus({ preventScroll: true }));
  listenToKeys([...KEYS, ...SECOND_KEYS], () => !$("keys").open);
  describeKeys($("keys").querySelector("dl"), KEYS);
  addEventListener("blur", () => { tools.held = null; hide(false); refresh(); });
  document.addEventListener("visibilitychange", () => document.hidden && stage.mask && saver.flush());
  addEventListener("beforeunload", (event) => saver.pending && event.preventDefault());
}

async function start() {
  listen();
  try {
    const found = await server.getSamples();
    samples = found.samples;
    $("folder").textContent = found.folder;
    strip = new Strip($("strip"), samples, show);
    showCounts(found.counts);
  } catch (error) {
    notice(error.message, ["Try again", () => location.reload()]);
    return;
  }
  const wanted = decodeURIComponent(location.hash.slice(1));
  const first = samples.find((sample) => sample.key === wanted)
    ?? samples.find((sample) => sample.state === "to_do") ?? samples[0];
  await show(first.key);
}

start();
