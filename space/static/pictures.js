// Between pictures and tensors, with the very arithmetic of pix2pix/images.py and the Pillow functions it calls: what
// this page translates is what `Translator` translates. A picture is {width, height, pixels}, pixels RGBA with alpha 255.

const PRECISION = 22; // bits behind the point of Pillow's filter weights for 8-bit pictures

/** Python's round(): halves go to the even neighbour. */
export function roundHalfEven(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Pillow's bicubic kernel, a = -0.5. */
function bicubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? -0.5 * (((x - 5) * x + 8) * x - 4) : 0;
}

/** For each of `outside` output positions: the first input it reads, and the integer weights of those it reads. */
function weights(inside, outside) {
  const scale = inside / outside;
  const stretch = Math.max(scale, 1);
  const support = 2 * stretch;
  return Array.from({ length: outside }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(inside, Math.trunc(centre + support + 0.5));
    const kernel = Array.from({ length: last - first }, (_, x) => bicubic((x + first - centre + 0.5) * (1 / stretch)));
    const sum = kernel.reduce((total, weight) => total + weight, 0);
    const whole = kernel.map((weight) => Math.trunc((weight / sum) * 2 ** PRECISION + Math.sign(weight) * 0.5));
    return { first, kernel: Int32Array.from(whole) };
  });
}

/** Resample one axis: `lines` lines of pixels, `along` bytes between pixels of a line, `across` between lines. */
function resampleAxis(pixels, inside, outside, lines, [along, across], [alongOut, acrossOut]) {
  const out = new Uint8ClampedArray(lines * outside * 4).fill(255);
  const table = weights(inside, outside);
  for (let line = 0; line < lines; line++) {
    for (let index = 0; index < outside; index++) {
      const { first, kernel } = table[index];
      let red = 1 << (PRECISION - 1);
      let green = red;
      let blue = red;
      let from = line * across + first * along;
      for (let k = 0; k < kernel.length; k++, from += along) {
        red += pixels[from] * kernel[k];
        green += pixels[from + 1] * kernel[k];
        blue += pixels[from + 2] * kernel[k];
      }
      const to = line * acrossOut + index * alongOut;
      out[to] = red >> PRECISION;
      out[to + 1] = green >> PRECISION;
      out[to + 2] = blue >> PRECISION;
    }
  }
  return out;
}

/** Image.resize((width, height), BICUBIC): first across, then down, in 8 bits between. */
export function resize(picture, width, height) {
  let { pixels } = picture;
  if (width !== picture.width) {
    const steps = [4, 4 * picture.width];
    pixels = resampleAxis(pixels, picture.width, width, picture.height, steps, [4, 4 * width]);
  }
  if (height !== picture.height) {
    const steps = [4 * width, 4];
    pixels = resampleAxis(pixels, picture.height, height, width, steps, steps);
  }
  return { width, height, pixels };
}

/** Position on an axis of `length` that is mirrored at both its ends, again and again. */
function reflected(position, length) {
  const period = Math.max(1, 2 * (length - 1));
  const inside = Math.abs(position) % period;
  return Math.min(inside, period - inside);
}

/** images.fit: aspect kept, centred, the rest mirrored. Returns the picture, and the box in which the original lies. */
export function fit(picture, [height, width]) {
  if (picture.width === width && picture.height === height) {
    return { picture, box: { left: 0, top: 0, width, height } };
  }
  const scale = Math.min(width / picture.width, height / picture.height);
  const innerWidth = Math.min(width, Math.max(1, roundHalfEven(picture.width * scale)));
  const innerHeight = Math.min(height, Math.max(1, roundHalfEven(picture.height * scale)));
  const inner = resize(picture, innerWidth, innerHeight);
  const left = Math.floor((width - innerWidth) / 2);
  const top = Math.floor((height - innerHeight) / 2);
  const from = new Uint32Array(inner.pixels.buffer, inner.pixels.byteOffset, innerWidth * innerHeight);
  const to = new Uint32Array(width * height);
  for (let y = 0; y < height; y++) {
    const row = reflected(y - top, innerHeight) * innerWidth;
    for (let x = 0; x < width; x++) to[y * width + x] = from[row + reflected(x - left, innerWidth)];
  }
  const pixels = new Uint8ClampedArray(to.buffer);
  return { picture: { width, height, pixels }, box: { left, top, width: innerWidth, height: innerHeight } };
}

/** images.unfit: cut the box out and bring it to the size of the original. */
export function unfit(picture, box, width, height) {
  const cut = new Uint8ClampedArray(box.width * box.height * 4);
  for (let y = 0; y < box.height; y++) {
    const start = ((box.top + y) * picture.width + box.left) * 4;
    cut.set(picture.pixels.subarray(start, start + box.width * 4), y * box.width * 4);
  }
  return resize({ width: box.width, height: box.height, pixels: cut }, width, height);
}

/** images.to_tensor: (channels, height, width) in [-1, 1]; colour becomes luma (ITU-R 601) for one channel. */
export function toTensor({ width, height, pixels }, channels) {
  const area = width * height;
  const values = new Float32Array(channels * area);
  for (let index = 0; index < area; index++) {
    const [red, green, blue] = [pixels[4 * index], pixels[4 * index + 1], pixels[4 * index + 2]];
    if (channels === 1) {
      values[index] = Math.fround(((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) / 127.5) - 1;
    } else {
      values[index] = Math.fround(red / 127.5) - 1;
      values[area + index] = Math.fround(green / 127.5) - 1;
      values[2 * area + index] = Math.fround(blue / 127.5) - 1;
    }
  }
  return values;
}

/** images.to_image: values in [-1, 1], one channel or three, rounded to pixels. */
export function toPicture(values, channels, width, height) {
  const area = width * height;
  const pixels = new Uint8ClampedArray(area * 4).fill(255);
  for (let index = 0; index < area; index++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = values[(channels === 1 ? 0 : channel) * area + index];
      pixels[4 * index + channel] = roundHalfEven(Math.fround(Math.fround(value + 1) * 127.5));
    }
  }
  return { width, height, pixels };
}
