// Draws the image, the mask over it, an open polygon and the brush; it changes none of them.

export const COLOURS = [[255, 79, 154], [0, 194, 255], [255, 190, 0]];
const INSIDE = 105, EDGE = 255;

export class Stage {
  #frame = 0;

  constructor(canvas, view) {
    Object.assign(this, {
      canvas, view, context: canvas.getContext("2d"), image: null, mask: null, layer: null,
      hidden: false, colour: 0, cursor: null, polygon: [], faint: false,
    });
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  show(image, mask) {
    Object.assign(this, { image, mask, polygon: [] });
    this.layer = mask && new OffscreenCanvas(mask.width, mask.height);
    if (mask) {
      this.view.show(mask.width, mask.height);
      this.update(mask.all);
    }
    this.draw();
  }

  // The mask changed inside a rectangle: pixels at the edge are opaque, those inside let through.
  update({ left, top, right, bottom }) {
    const { width, height, data } = this.mask;
    left = Math.max(0, left - 1);
    top = Math.max(0, top - 1);
    right = Math.min(width, right + 1);
    bottom = Math.min(height, bottom + 1);
    if (right <= left || bottom <= top) return;
    const context = this.layer.getContext("2d");
    const pixels = context.createImageData(right - left, bottom - top);
    const [red, green, blue] = COLOURS[this.colour];
    let at = 0;
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++, at += 4) {
        const i = y * width + x;
        if (!data[i]) continue;
        const edge = !(x > 0 ? data[i - 1] : 1) || !(x + 1 < width ? data[i + 1] : 1)
          || !(y > 0 ? data[i - width] : 1) || !(y + 1 < height ? data[i + width] : 1);
        pixels.data.set([red, green, blue, edge ? EDGE : INSIDE], at);
      }
    }
    context.putImageData(pixels, left, top);
    this.draw();
  }

  nextColour() {
    this.colour = (this.colour + 1) % COLOURS.length;
    if (this.mask) this.update(this.mask.all);
    return `rgb(${COLOURS[this.colour].join(" ")})`;
  }

  draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#paint();
    });
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.max(1, Math.round(clientWidth * devicePixelRatio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * devicePixelRatio));
    this.view.resize(clientWidth, clientHeight);
    this.#paint();
  }

  #paint() {
    const { context, view, canvas } = this;
    // for whoever wants to know where a pixel of the image is on the screen
    canvas.dataset.view = [view.scale, view.x, view.y].join(" ");
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!this.mask) return;
    const place = [view.x, view.y, view.width * view.scale, view.height * view.scale];
    context.imageSmoothingQuality = "high";
    context.imageSmoothingEnabled = view.scale < 6;
    context.drawImage(this.image, ...place);
    context.imageSmoothingEnabled = view.scale < 1;
    context.globalAlpha = this.faint ? 0.35 : 1;
    if (!this.hidden) context.drawImage(this.layer, ...place);
    context.globalAlpha = 1;
    if (this.polygon.length) this.#paintPolygon();
    if (this.cursor?.radius) this.#paintBrush();
  }

  #paintPolygon() {
    const { context, view } = this;
    const points = this.polygon.map((point) => view.toSheet(point));
    context.beginPath();
    for (const { x, y } of points) context.lineTo(x, y);
    if (this.cursor) context.lineTo(this.cursor.x, this.cursor.y);
    this.#stroke(`rgb(${COLOURS[this.colour].join(" ")})`);
    points.forEach(({ x, y }, index) => {
      context.beginPath();
      context.arc(x, y, index ? 3.5 : 6, 0, 2 * Math.PI);
      context.fillStyle = "white";
      context.fill();
      this.#stroke(`rgb(${COLOURS[this.colour].join(" ")})`);
    });
  }

  #paintBrush() {
    const { context, cursor } = this;
    context.beginPath();
    context.arc(cursor.x, cursor.y, Math.max(2, cursor.radius), 0, 2 * Math.PI);
    context.setLineDash(cursor.erases ? [5, 4] : []);
    this.#stroke("white");
    context.setLineDash([]);
  }

  // light on dark, so that it is seen on every picture
  #stroke(style) {
    const { context } = this;
    context.strokeStyle = "rgb(0 0 0 / 65%)";
    context.lineWidth = 3.5;
    context.stroke();
    context.strokeStyle = style;
    context.lineWidth = 1.7;
    context.stroke();
  }
}
