// Finds faces with an exported .tflite file under LiteRT.js. Knows nothing of the page.

import {loadLiteRt, loadAndCompile, Tensor} from '@litertjs/core';

// The colour of the padding is what the network subtracts, so that padding is zero to it.
const PADDING = 'rgb(123, 117, 104)';

export async function openModel(modelUrl, wasmUrl) {
  await loadLiteRt(wasmUrl);
  const response = await fetch(modelUrl);
  if (!response.ok) throw new Error(`${modelUrl}: ${response.status} ${response.statusText}`);
  const model = await loadAndCompile(new Uint8Array(await response.arrayBuffer()), {accelerator: 'wasm'});
  const [, height, width] = model.getInputDetails()[0].shape;
  const canvas = new OffscreenCanvas(width, height);
  return {model, width, height, pixels: canvas.getContext('2d', {willReadFrequently: true})};
}

// `image` is anything that a canvas draws; its size is given because a video calls it by other names than a picture.
// Returns faces, best first: box [x1, y1, x2, y2] and landmarks [x, y] in pixels of the image.
export async function detect({model, width, height, pixels}, image, imageWidth, imageHeight) {
  const scale = Math.min(width / imageWidth, height / imageHeight);
  pixels.fillStyle = PADDING;
  pixels.fillRect(0, 0, width, height);
  pixels.drawImage(image, 0, 0, Math.round(imageWidth * scale), Math.round(imageHeight * scale));
  const rgba = pixels.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    rgb[to++] = rgba[from];
    rgb[to++] = rgba[from + 1];
    rgb[to++] = rgba[from + 2];
  }
  const input = new Tensor(rgb, [1, height, width, 3]);
  const outputs = await model.run({image: input});
  const {boxes, scores, landmarks, count} = Object.fromEntries(
      Object.entries(outputs).map(([name, tensor]) => [name, tensor.toTypedArray().slice()]));
  input.delete();
  Object.values(outputs).forEach((tensor) => tensor.delete());
  return Array.from({length: count[0]}, (_, face) => ({
    box: Array.from(boxes.subarray(4 * face, 4 * face + 4), (v) => v / scale),
    score: scores[face],
    landmarks: [0, 1, 2, 3, 4].map((point) => {
      const at = 10 * face + 2 * point;
      return [landmarks[at] / scale, landmarks[at + 1] / scale];
    }),
  }));
}
