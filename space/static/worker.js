// The networks, in a thread of their own: strokes on the pad stay smooth while one translates.

import * as ort from "./ort/ort.wasm.bundle.min.mjs";
import { fit, toPicture, toTensor, unfit } from "./pictures.js";

const sessions = {};
let about;

/** Fetch one file as bytes, telling after each piece how many came. */
async function fetched(url, onBytes) {
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url} could not be fetched (${answer.status})`);
  const reader = answer.body.getReader();
  const pieces = [];
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    pieces.push(piece.value);
    onBytes(piece.value.length);
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** Load everything at once: from then on the page needs no network. */
async function load() {
  about = await (await fetch("./models/models.json")).json();
  const entries = Object.entries(about.directions);
  const total = entries.reduce((sum, [, { bytes }]) => sum + bytes, about.runtime_bytes);
  let done = 0;
  const progress = (bytes) => postMessage({ kind: "progress", done: (done += bytes), total });

  ort.env.wasm.wasmBinary = (await fetched("./ort/ort-wasm-simd-threaded.wasm", progress)).buffer;
  // Threads need shared memory, which a page has only if its host isolates it (COOP and COEP headers).
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  for (const [direction, { file }] of entries) {
    const network = await fetched(`./models/${file}`, progress);
    sessions[direction] = await ort.InferenceSession.create(network, { executionProviders: ["wasm"] });
  }
  postMessage({ kind: "ready", about });
}

/** Translate a picture as pix2pix.inference.Translator does. */
async function translate(direction, picture) {
  const { in_channels, out_channels, image_size } = about.directions[direction];
  const [height, width] = image_size;
  const fitted = fit(picture, image_size);
  const source = new ort.Tensor("float32", toTensor(fitted.picture, in_channels), [1, in_channels, height, width]);
  const { image } = await sessions[direction].run({ source });
  return unfit(toPicture(image.data, out_channels, width, height), fitted.box, picture.width, picture.height);
}

const loading = load().catch((error) => {
  postMessage({ kind: "failed", message: String(error.message || error) });
  throw error;
});

onmessage = async ({ data: { id, direction, picture } }) => {
  try {
    await loading;
    const result = await translate(direction, picture);
    postMessage({ kind: "result", id, direction, picture: result }, [result.pixels.buffer]);
  } catch (error) {
    postMessage({ kind: "failed", id, message: String(error.message || error) });
  }
};
