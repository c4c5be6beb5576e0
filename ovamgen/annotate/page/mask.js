// A mask of two values, painted pixel by pixel: a pixel belongs to a shape when its centre does.
// Coordinates are those of the image: pixel (x, y) covers [x, x + 1) and [y, y + 1).

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
  }

  // All pixels at most `radius` from the segment; returns the rectangle that may have changed.
  paintSegment(from, to, radius, value) {
    const rect = this.#clip(
      Math.min(from.x, to.x) - radius, Math.min(from.y, to.y) - radius,
      Math.max(from.x, to.x) + radius, Math.max(from.y, to.y) + radius);
    const dx = to.x - from.x, dy = to.y - from.y, length2 = dx * dx + dy * dy;
    for (let y = rect.top; y < rect.bottom; y++) {
      for (let x = rect.left; x < rect.right; x++) {
        const px = x + 0.5 - from.x, py = y + 0.5 - from.y;
        const along = length2 ? Math.min(1, Math.max(0, (px * dx + py * dy) / length2)) : 0;
        const ex = px - along * dx, ey = py - along * dy;
        if (ex * ex + ey * ey <= radius * radius) this.data[y * this.width + x] = value;
      }
    }
    // the finest brush must not fall between the centres
    for (const point of [from, to]) {
      const x = Math.floor(point.x), y = Math.floor(point.y);
      if (x >= 0 && y >= 0 && x < this.width && y < this.height) this.data[y * this.width + x] = value;
    }
    return rect;
  }

  // The inside of a closed polygon, by the even-odd rule along each row's centres.
  paintPolygon(points, value) {
    const xs = points.map((point) => point.x), ys = points.map((point) => point.y);
    const rect = this.#clip(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys));
    for (let y = rect.top; y < rect.bottom; y++) {
      const row = y + 0.5, crossings = [];
      points.forEach((a, index) => {
        const b = points[(index + 1) % points.length];
        if ((a.y <= row) !== (b.y <= row)) crossings.push(a.x + (row - a.y) / (b.y - a.y) * (b.x - a.x));
      });
      crossings.sort((a, b) => a - b);
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        const first = Math.max(0, Math.ceil(crossings[i] - 0.5));
        const end = Math.min(this.width, Math.ceil(crossings[i + 1] - 0.5));
        if (end > first) this.data.fill(value, y * this.width + first, y * this.width + end);
      }
    }
    return rect;
  }

  clear() {
    this.data.fill(0);
    return this.all;
  }

  get all() {
    return { left: 0, top: 0, right: this.width, bottom: this.height };
  }

  get area() {
    let sum = 0;
    for (const value of this.data) sum += value;
    return sum;
  }

  // The bytes of a rectangle, and their way back.
  copy({ left, top, right, bottom }, data = this.data) {
    const part = new Uint8Array((right - left) * (bottom - top));
    for (let y = top; y < bottom; y++) {
      part.set(data.subarray(y * this.width + left, y * this.width + right), (y - top) * (right - left));
    }
    return part;
  }

  put({ left, top, right, bottom }, part) {
    for (let y = top; y < bottom; y++) {
      const start = (y - top) * (right - left);
      this.data.set(part.subarray(start, start + right - left), y * this.width + left);
    }
  }

  // An opaque PNG of black and white.
  async toPng() {
    const canvas = new OffscreenCanvas(this.width, this.height);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(this.width, this.height);
    new Uint32Array(pixels.data.buffer).forEach((_, i, all) => { all[i] = this.data[i] ? 0xffffffff : 0xff000000; });
    context.putImageData(pixels, 0, 0);
    return canvas.convertToBlob({ type: "image/png" });
  }

  static async fromPng(blob, width, height) {
    const mask = new Mask(width, height);
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const context = new OffscreenCanvas(width, height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    for (let i = 0; i < mask.data.length; i++) mask.data[i] = data[4 * i] > 127 ? 1 : 0;
    return mask;
  }

  #clip(left, top, right, bottom) {
    const within = (value, limit) => Math.min(limit, Math.max(0, value));
    return {
      left: within(Math.floor(left), this.width), top: within(Math.floor(top), this.height),
      right: within(Math.ceil(right) + 1, this.width), bottom: within(Math.ceil(bottom) + 1, this.height),
    };
  }
}

export function union(a, b) {
  if (!a) return b;
  return {
    left: Math.min(a.left, b.left), top: Math.min(a.top, b.top),
    right: Math.max(a.right, b.right), bottom: Math.max(a.bottom, b.bottom),
  };
}
