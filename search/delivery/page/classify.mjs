// Classify: from an image file to the probabilities of its classes, as the model was verified.
// The steps are those that about.json has in words.

const BITS = 22; // of the weights that resample pixels, after the point

/** A function from an image file to {names, shares, ms}, the likeliest class first. */
export async function classifier() {
  const about = await (await fetch("about.json")).json();
  const { load } = await import("./runtime.mjs");
  const folder = new URL(".", import.meta.url).href;
  const threads = globalThis.crossOriginIsolated ? about.threads : 1;
  const script = `${folder}${about.script}`;
  const runtime = await load({ script, folder, provider: about.provider, threads });
  const stored = await (await fetch(about.model)).arrayBuffer();
  const model = await runtime.open(new Uint8Array(stored));
  return async (file) => {
    const image = laid(await tensor(file, about), about);
    const batch = new Float32Array(model.shape.reduce((a, b) => a * b, 1));
    for (let start = 0; start < batch.length; start += image.length) batch.set(image, start);
    const begun = performance.now();
    const { data } = await model.run(model.given(batch));
    const ms = performance.now() - begun;
    const logits = data.subarray(0, about.class_names.length);
    const raised = Array.from(logits, (logit) => Math.exp(logit - Math.max(...logits)));
    const all = raised.reduce((a, b) => a + b, 0);
    const found = about.class_names.map((label, i) => ({ label, share: raised[i] / all }));
    return { classes: found.sort((a, b) => b.share - a.share), ms };
  };
}

/** The same values as the model's file has them, which may be channels last. */
function laid(image, { channels_last: last, mean: { length: channels } }) {
  const size = image.length / channels;
  return last ? image.map((_, i) => image[(i % channels) * size + Math.floor(i / channels)]) : image;
}

/** The input of the network for an image file: channels x size x size. */
export async function tensor(file, about) {
  const { size, fit, pad_value: gray } = about.image ?? { size: about.input_size, fit: "crop" };
  const planes = await decoded(file, about.mean.length);
  return new Float32Array(
    planes.flatMap((plane, c) => {
      const fitted = fit === "pad" ? padded(plane, size, gray) : filled(plane, size, fit);
      const [mean, std] = [Math.fround(about.mean[c]), Math.fround(about.std[c])];
      const normal = Float32Array.from(fitted, (value) =>
        Math.fround(Math.fround(Math.fround(value / 255) - mean) / std),
      );
      return Array.from(resized(normal, size, about.input_size));
    }),
  );
}

/** Gray, or red, green and blue, of an image that is turned upright, over white. */
async function decoded(file, channels) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const bitmap = await createImageBitmap(file, options);
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  const planes = Array.from({ length: channels }, () => new Uint8Array(width * height));
  for (let i = 0; i < width * height; i++) {
    const alpha = data[4 * i + 3];
    const over = (c) => Math.round((data[4 * i + c] * alpha + 255 * (255 - alpha)) / 255);
    if (channels === 1) {
      planes[0][i] = (19595 * over(0) + 38470 * over(1) + 7471 * over(2) + 32768) >> 16;
    } else {
      for (let c = 0; c < channels; c++) planes[c][i] = over(c);
    }
  }
  return planes.map((values) => ({ values, width, height }));
}

function filled(plane, size, fit) {
  const { width, height } = plane;
  const side = Math.min(width, height);
  const box =
    fit === "crop"
      ? [(width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2]
      : [0, 0, width, height];
  return resampled(plane, size, size, box);
}

function padded(plane, size, gray) {
  const { width, height } = plane;
  const long = Math.max(width, height);
  const inner = (side) => Math.max(1, Math.floor((2 * size * side + long) / (2 * long)));
  const [across, down] = [inner(width), inner(height)];
  const values = resampled(plane, across, down, [0, 0, width, height]);
  const canvas = new Uint8Array(size * size).fill(gray);
  const [left, top] = [(size - across) >> 1, (size - down) >> 1];
  for (let y = 0; y < down; y++) {
    canvas.set(values.subarray(y * across, (y + 1) * across), (top + y) * size + left);
  }
  return canvas;
}

/** A box of a plane at another size: bicubic, first across, then down, rounded after each. */
function resampled({ values, width, height }, across, down, [left, top, right, bottom]) {
  const rows = new Uint8Array(across * height);
  weights(width, left, right, across).forEach(({ first, parts }, x) => {
    for (let y = 0; y < height; y++) {
      let sum = 2 ** (BITS - 1);
      for (let i = 0; i < parts.length; i++) sum += values[y * width + first + i] * parts[i];
      rows[y * across + x] = clipped(sum);
    }
  });
  const pixels = new Uint8Array(across * down);
  weights(height, top, bottom, down).forEach(({ first, parts }, y) => {
    for (let x = 0; x < across; x++) {
      let sum = 2 ** (BITS - 1);
      for (let i = 0; i < parts.length; i++) sum += rows[(first + i) * across + x] * parts[i];
      pixels[y * across + x] = clipped(sum);
    }
  });
  return pixels;
}

function clipped(sum) {
  return Math.min(255, Math.max(0, Math.floor(sum / 2 ** BITS)));
}

/** For each new pixel, the first old one that it is made of, and the weights of these. */
function weights(count, from, to, size) {
  const scale = (to - from) / size;
  const stretch = Math.max(scale, 1);
  return Array.from({ length: size }, (_, index) => {
    const center = from + (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - 2 * stretch + 0.5));
    const after = Math.min(count, Math.trunc(center + 2 * stretch + 0.5));
    const raw = Array.from({ length: after - first }, (_, i) =>
      bicubic((first + i - center + 0.5) / stretch),
    );
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, parts: raw.map((part) => rounded((part / sum) * 2 ** BITS)) };
  });
}

function rounded(value) {
  return Math.trunc(value + (value < 0 ? -0.5 : 0.5));
}

/** Keys' kernel with a = -0.5. */
function bicubic(x) {
  const at = Math.abs(x);
  if (at < 1) return (1.5 * at - 2.5) * at * at + 1;
  return at < 2 ? ((at - 5) * at + 8) * at * -0.5 + 2 : 0;
}

/** A plane at the network's own size: bilinear, stretched where it shrinks. */
function resized(plane, size, wanted) {
  if (size === wanted) return plane;
  const scale = size / wanted;
  const reach = Math.max(scale, 1);
  const taps = Array.from({ length: wanted }, (_, index) => {
    const center = scale * (index + 0.5);
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const after = Math.min(size, Math.trunc(center + reach + 0.5));
    const raw = Array.from({ length: after - first }, (_, i) =>
      Math.max(0, 1 - Math.abs((first + i - center + 0.5) / reach)),
    );
    const sum = raw.reduce((a, b) => a + b, 0);
    return { first, parts: raw.map((part) => part / sum) };
  });
  const dot = ({ first, parts }, at) => parts.reduce((sum, part, i) => sum + part * at(first + i), 0);
  const rows = Array.from({ length: size }, (_, y) => taps.map((tap) => dot(tap, (x) => plane[y * size + x])));
  return Float32Array.from({ length: wanted * wanted }, (_, i) =>
    dot(taps[Math.floor(i / wanted)], (y) => rows[y][i % wanted]),
  );
}
