// The page: a file or the webcam in, faces drawn. ?model=URL names another model, ?image=URL opens a picture at once, and
// ?report=URL sends what was found there in, which the test uses.

import {detect, openModel} from './detect.js';

const options = new URLSearchParams(location.search);
const status = document.getElementById('status');
const canvas = document.getElementById('canvas');
const context = canvas.getContext('2d');

const GREEN = 'rgb(40, 220, 90)';
// One colour a landmark, so that a swapped left and right shows.
const POINTS = ['rgb(255, 80, 80)', 'rgb(80, 160, 255)', 'rgb(255, 230, 60)', 'rgb(255, 80, 255)', 'rgb(80, 255, 255)'];

// Lines, points and letters go by the face and by the picture, so that both large and small ones can be read.
function draw(image, width, height, faces) {
  canvas.width = width;
  canvas.height = height;
  context.drawImage(image, 0, 0, width, height);
  const long = Math.max(width, height);
  const sideOf = ({box: [x1, , x2]}) => Math.max(1, x2 - x1);
  const lineOf = (side) => Math.max(1, side / 150, Math.min(long / 500, side / 14));
  for (const face of faces) {
    const {box: [x1, y1, x2, y2], landmarks} = face;
    const side = sideOf(face);
    context.lineWidth = lineOf(side);
    context.strokeStyle = GREEN;
    context.strokeRect(x1, y1, x2 - x1, y2 - y1);
    const radius = Math.max(1, side / 50, Math.min(long / 500, side / 14));
    landmarks.forEach(([x, y], point) => {
      for (const [size, colour] of [[radius + Math.max(0.7, radius / 3), 'black'], [radius, POINTS[point]]]) {
        context.fillStyle = colour;
        context.beginPath();
        context.arc(x, y, size, 0, 2 * Math.PI);
        context.fill();
      }
    });
  }
  context.textBaseline = 'middle';
  for (const face of [...faces].reverse()) {
    const [x1, y1] = face.box;
    const side = sideOf(face);
    const text = face.score.toFixed(2);
    const letters = Math.max(11, Math.min(long / 70, side / 3), Math.min(side / 7, long / 25));
    context.font = `${Math.round(1.3 * letters)}px sans-serif`;
    const margin = Math.max(2, letters / 5);
    const wide = context.measureText(text).width + 2 * margin;
    const high = letters + 2 * margin;
    const left = Math.min(Math.max(0, x1 - lineOf(side) / 2), Math.max(0, width - wide));
    const top = y1 >= high ? y1 - high : Math.max(0, y1);
    context.fillStyle = GREEN;
    context.fillRect(left, top, wide, high);
    context.fillStyle = 'rgb(0, 25, 5)';
    context.fillText(text, left + margin, top + high / 2);
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
