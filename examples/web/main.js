// The page: a file or the webcam in, faces over the slider's score drawn. ?model=URL names another model, ?image=URL opens a picture at once, and
// ?report=URL sends what was found there in, which the test uses.

import {detect, openModel} from './detect.js';

const options = new URLSearchParams(location.search);
const status = document.getElementById('status');
const canvas = document.getElementById('canvas');
const context = canvas.getContext('2d');
const score = document.getElementById('score');
const webcam = document.getElementById('webcam');

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

// What is on the canvas, kept so that another score draws it again without another detection.
let shown = {image: canvas, width: 0, height: 0, faces: [], milliseconds: 0};
let camera = null;

function redraw() {
  const least = Number(score.value);
  document.getElementById('least').textContent = least.toFixed(2);
  if (!shown.width) return;
  const faces = shown.faces.filter((face) => face.score >= least);
  status.textContent = `${faces.length} of ${shown.faces.length} faces, ${Math.round(shown.milliseconds)} ms`;
  draw(shown.image, shown.width, shown.height, faces);
}

// One at a time: the model has one input, and a picture may be opened while a frame of the webcam is looked at.
let last = Promise.resolve();

function show(...request) {
  last = last.catch(() => {}).then(() => detectAndDraw(...request));
  return last;
}

async function detectAndDraw(detector, image, width, height) {
  const start = performance.now();
  const faces = await detect(detector, image, width, height);
  shown = {image, width, height, faces, milliseconds: performance.now() - start};
  redraw();
  return faces;
}

function stopCamera() {
  camera?.getTracks().forEach((track) => track.stop());
  camera = null;
  webcam.textContent = 'Start webcam';
}

async function follow(detector) {
  const stream = await navigator.mediaDevices.getUserMedia({video: true});
  camera = stream;
  webcam.textContent = 'Stop webcam';
  const video = document.createElement('video');
  video.srcObject = stream;
  await video.play();
  while (camera === stream) {
    // A still of the moment: the video moves on while its faces are sought.
    const image = await createImageBitmap(video);
    await show(detector, image, image.width, image.height);
    await new Promise(requestAnimationFrame);
  }
}

async function open(detector, source) {
  stopCamera();
  const image = await createImageBitmap(await (await fetch(source)).blob());
  return {faces: await show(detector, image, image.width, image.height), width: image.width, height: image.height};
}

// Says what went wrong where the person looks, and leaves the page in use.
const guarded = (action) => (event) => action(event).catch((error) => {
  stopCamera();
  status.textContent = `${error.name}: ${error.message}`;
});

async function start() {
  const detector = await openModel(
      options.get('model') ?? 'retinaface.tflite', './node_modules/@litertjs/core/wasm/');
  document.getElementById('file').onchange = guarded(({target}) => open(detector, URL.createObjectURL(target.files[0])));
  webcam.onclick = guarded(async () => camera ? stopCamera() : follow(detector));
  score.oninput = redraw;
  document.getElementById('controls').disabled = false;
  status.textContent = 'ready: choose a picture, or start the webcam';
  return options.has('image') ? open(detector, options.get('image')) : {};
}

async function report(found) {
  if (options.has('report')) {
    await fetch(options.get('report'), {method: 'POST', body: JSON.stringify(found)});
  }
}

start().then(report).catch(async (error) => {
  status.textContent = `the model did not load: ${error.message}`;
  await report({error: `${error.stack ?? error}`});
});
