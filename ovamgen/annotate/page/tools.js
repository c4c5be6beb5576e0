// Pointers become strokes, polygons and moves of the view.

import { union } from "./mask.js";

const CLOSE_PX = 10, WHEEL = 0.0016;

export class Tools {
  #pointers = new Map();
  #stroke = null;
  #last = null;
  #penSeen = false;
  #locked = false;

  // onChange(rect, before): a step is done.
  constructor(stage, onChange) {
    Object.assign(this, { stage, onChange, name: "brush", diameter: 0, held: null });
    const listen = (type, run, options) => stage.canvas.addEventListener(type, run.bind(this), options);
    listen("pointerdown", this.#down);
    listen("pointermove", this.#move);
    listen("pointerup", this.#up);
    listen("pointercancel", this.#cancel);
    listen("pointerleave", () => this.#point(null));
    listen("wheel", this.#wheel, { passive: false });
    listen("dblclick", (event) => this.closePolygon(event.altKey));
    listen("contextmenu", (event) => event.preventDefault());
  }

  // Space held moves the image, whatever the tool.
  get active() { return this.held ?? this.name; }
  get busy() { return this.#stroke !== null || this.#locked; }
  get openPolygon() { return this.stage.polygon.length > 0; }

  // Between two samples nothing is painted.
  lock() {
    this.#locked = true;
  }

  release() {
    this.#locked = false;
    this.#stroke = this.#last = null;
    this.#pointers.clear();
  }

  // Closing with `subtract` takes the inside away.
  closePolygon(subtract) {
    const points = this.stage.polygon.filter((point, i, all) => !i || point.x !== all[i - 1].x || point.y !== all[i - 1].y);
    if (points.length < 3) return false;
    const before = this.stage.mask.data.slice();
    const rect = this.stage.mask.paintPolygon(points, subtract ? 0 : 1);
    this.dropPolygon();
    this.stage.update(rect);
    this.onChange(rect, before);
    return true;
  }

  dropPolygon() {
    this.stage.polygon = [];
    this.stage.draw();
  }

  dropVertex() {
    this.stage.polygon.pop();
    this.stage.draw();
  }

  // The brush on the screen, after the tool, its size or the zoom changed.
  refresh() {
    const { cursor } = this.stage;
    if (cursor) this.#point({ ...cursor }, cursor.erases && this.name !== "eraser");
  }

  #down(event) {
    const { stage } = this;
    stage.canvas.focus({ preventScroll: true });
    if (!stage.mask || this.#locked) return;
    if (event.pointerType === "pen") this.#penSeen = true;
    stage.canvas.setPointerCapture(event.pointerId);
    const at = this.#place(event);
    this.#pointers.set(event.pointerId, at);
    if (this.#pointers.size > 1) {
      this.#abandon();
      return;
    }
    const moves = this.active === "hand" || event.button === 1
      || (event.pointerType === "touch" && this.#penSeen);
    if (moves) this.#stroke = { kind: "hand" };
    else if (this.active === "polygon" && event.button === 0) this.#vertex(at, event.altKey);
    else if (this.active !== "polygon") this.#begin(at, event);
  }

  #begin(at, event) {
    const { mask } = this.stage;
    // a second button, or a pen's rubber, erases
    const erases = this.active === "eraser" || event.button === 2 || event.button === 5;
    this.#stroke = { kind: "paint", value: erases ? 0 : 1, before: mask.data.slice(), rect: null, erases };
    const from = event.shiftKey && this.#last ? this.#last : this.stage.view.toImage(at);
    this.#paint(from, this.stage.view.toImage(at));
    this.#point(at, erases);
  }

  #paint(from, to) {
    const rect = this.stage.mask.paintSegment(from, to, this.diameter / 2, this.#stroke.value);
    this.#stroke.rect = union(this.#stroke.rect, rect);
    this.#last = to;
    this.stage.update(rect);
  }

  #move(event) {
    const at = this.#place(event), before = this.#pointers.get(event.pointerId);
    if (before && this.#pointers.size === 2) this.#pinch(event.pointerId, before, at);
    else if (before && this.#stroke?.kind === "hand") this.stage.view.pan(at.x - before.x, at.y - before.y);
    else if (before && this.#stroke?.kind === "paint") {
      // the places between two frames too, so that quick strokes stay round
      const places = event.getCoalescedEvents?.().map((part) => this.#place(part)) ?? [];
      for (const place of places.length ? places : [at]) this.#paint(this.#last, this.stage.view.toImage(place));
    }
    if (before) this.#pointers.set(event.pointerId, at);
    this.#point(event.pointerType === "touch" ? null : at, this.#stroke?.erases);
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    const stroke = this.#stroke;
    this.#stroke = null;
    if (event.pointerType === "touch") this.#point(null);
    if (stroke?.kind === "paint") this.onChange(stroke.rect, stroke.before);
  }

  #cancel(event) {
    this.#abandon();
    this.#pointers.delete(event.pointerId);
  }

  // A second finger: what the first one painted was the start of a pinch.
  #abandon() {
    if (this.#stroke?.kind === "paint") {
      this.stage.mask.data.set(this.#stroke.before);
      this.stage.update(this.stage.mask.all);
    }
    this.#stroke = null;
  }

  #pinch(id, before, at) {
    const other = [...this.#pointers].find(([key]) => key !== id)[1];
    const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y);
    const { view } = this.stage;
    view.pan((at.x - before.x) / 2, (at.y - before.y) / 2);
    view.zoom(apart(at) / Math.max(1, apart(before)), { x: (at.x + other.x) / 2, y: (at.y + other.y) / 2 });
    this.stage.draw();
  }

  #vertex(at, subtract) {
    const { polygon, view } = this.stage;
    if (polygon.length > 2) {
      const first = view.toSheet(polygon[0]);
      if (Math.hypot(at.x - first.x, at.y - first.y) <= CLOSE_PX) {
        this.closePolygon(subtract);
        return;
      }
    }
    polygon.push(view.toImage(at));
    this.stage.draw();
  }

  #wheel(event) {
    event.preventDefault();
    if (!this.stage.mask) return;
    const lines = event.deltaMode === 1 ? 16 : 1;
    this.stage.view.zoom(Math.exp(-(event.deltaY + event.deltaX) * lines * WHEEL * (event.ctrlKey ? 5 : 1)), this.#place(event));
    this.refresh();
    this.stage.draw();
  }

  #point(at, erases = false) {
    const { stage } = this;
    const brush = this.active === "brush" || this.active === "eraser";
    stage.cursor = at && { x: at.x, y: at.y, erases: erases || this.active === "eraser",
      radius: brush ? this.diameter / 2 * stage.view.scale : 0 };
    stage.draw();
  }

  #place(event) {
    const { left, top } = this.stage.canvas.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }
}
