// The page: a file or the webcam in, faces drawn. ?model=URL names another model, ?image=URL opens a picture at once, and
// ?report=URL sends what was found there in, which the test uses.

import {detect, openModel} from './detect.js';

const options = new URLSearchParams(location.search);
const status = document.getElementById('status');
const canvas = document.getElementById('canvas');
const context = canvas.getContext('2d');

function draw(image, width, height, faces) {
  canvas.width = width;
  canvas.height = height;
  context.drawImage(image, 0, 0, width, height);
  context.lineWidth = Math.max(2, width / 400);
  context.strokeStyle = 'rgb(80, 220, 80)';
  context.fillStyle = 'rgb(255, 60, 60)';
  const dot = Math.max(4, width / 300);
  for (const {box: [x1, y1, x2, y2], landmarks} of faces) {
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    for (const [x, y] of landmarks) {
      context.fillRect(x - dot / 2, y - dot / 2, dot, dot);
    }
  }
}

async function show(detector, image, width, height) {
  const start = performance.now();
  const faces = await detect(detector, image, width, height);
  status.textContent = `${faces.length} faces, ${Math.round(performance.now() - start)} ms`;
  draw(image, width, height, faces);
  return faces;
}

async function follow(detector) {
  const video = document.createElement('video');
  video.srcObject = await navigator.mediaDevices.getUserMedia({video: true});
  await video.play();
  const step = async () => {
    await show(detector, video, video.videoWidth, video.videoHeight);
    requestAnimationFrame(step);
  };
  step();
}

async function start() {
  const detector = await openModel(
      options.get('model') ?? 'retinaface.tflite', './node_modules/@litertjs/core/wasm/');
  status.textContent = 'ready';
  const open = async (source) => {
    const image = await createImageBitmap(await (await fetch(source)).blob());
    return {faces: await show(detector, image, image.width, image.height), width: image.width, height: image.height};
  };
  document.getElementById('file').onchange = ({target}) => open(URL.createObjectURL(target.files[0]));
  document.getElementById('webcam').onclick = () => follow(detector);
  return options.has('image') ? open(options.get('image')) : {};
}

async function report(found) {
  if (options.has('report')) {
    await fetch(options.get('report'), {method: 'POST', body: JSON.stringify(found)});
  }
}

start().then(report).catch(async (error) => {
  status.textContent = `${error}`;
  await report({error: `${error.stack ?? error}`});
});
