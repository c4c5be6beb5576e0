// Where the image lies on the sheet: (x, y) of its top left corner in CSS pixels, and a scale.

const SMALLEST = 0.05, LARGEST = 64, MARGIN = 40;

export class View {
  constructor() {
    Object.assign(this, { scale: 1, x: 0, y: 0, width: 1, height: 1, sheetWidth: 1, sheetHeight: 1, fitted: true });
  }

  resize(sheetWidth, sheetHeight) {
    // what was in the middle stays in the middle
    this.x += (sheetWidth - this.sheetWidth) / 2;
    this.y += (sheetHeight - this.sheetHeight) / 2;
    Object.assign(this, { sheetWidth, sheetHeight });
    if (this.fitted) this.fit();
  }

  show(width, height) {
    Object.assign(this, { width, height });
    this.fit();
  }

  fit() {
    const margin = Math.min(28, this.sheetWidth / 20);
    this.scale = Math.min((this.sheetWidth - 2 * margin) / this.width, (this.sheetHeight - 2 * margin) / this.height);
    this.scale = Math.min(LARGEST, Math.max(SMALLEST, this.scale));
    this.x = (this.sheetWidth - this.scale * this.width) / 2;
    this.y = (this.sheetHeight - this.scale * this.height) / 2;
    this.fitted = true;
  }

  // The point of the sheet stays over the same point of the image.
  zoom(factor, at = { x: this.sheetWidth / 2, y: this.sheetHeight / 2 }) {
    const scale = Math.min(LARGEST, Math.max(SMALLEST, this.scale * factor));
    this.x = at.x - (at.x - this.x) * scale / this.scale;
    this.y = at.y - (at.y - this.y) * scale / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.#keepInSight();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.#keepInSight();
  }

  toImage({ x, y }) {
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  toSheet({ x, y }) {
    return { x: this.x + x * this.scale, y: this.y + y * this.scale };
  }

  #keepInSight() {
    this.x = Math.min(this.sheetWidth - MARGIN, Math.max(MARGIN - this.scale * this.width, this.x));
    this.y = Math.min(this.sheetHeight - MARGIN, Math.max(MARGIN - this.scale * this.height, this.y));
  }
}
