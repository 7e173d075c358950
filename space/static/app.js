// The page: what a person does with it. The networks live in worker.js, the arithmetic of pictures in pictures.js.

const $ = (id) => document.getElementById(id);
const WORDS = {
  photo2sketch: { source: "photo", target: "sketch" },
  sketch2photo: { source: "sketch", target: "photo" },
};
const MINIMUM_SIDE = 16;
const MOST_PIXELS = 16e6; // beyond this, canvases of phones fail; the picture is shrunk to it
const PAD_SCALE = 2; // pixels of the pad for each of the network's
const UNDO_STEPS = 30;

// The training geometry, as in pix2pix/faces.py: portraits of 200 x 250 pixels with the eyes here.
const TEMPLATE = { width: 200, height: 250, leftEye: [75, 125], rightEye: [125, 125], oval: [100, 133, 50, 80] };

let about; // what models.json says; null until everything is loaded
let direction = "photo2sketch";
let subject = 0; // changes with what is looked at: results that come for an earlier one are nobody's
let asked = 0; // how many translations were asked for
let busy = false;
let waiting = false;

/** What a direction works on: a picture and its framing, or the pad. */
const work = Object.fromEntries(
  Object.keys(WORDS).map((name) => [name, { picture: null, framed: name === "photo2sketch", view: null, result: null }]),
);
const pad = { undo: [], blank: true, pen: null, cursor: null };

// --- loading

let announceReady;
const ready = new Promise((resolve) => (announceReady = resolve));
const worker = new Worker("worker.js", { type: "module" });
worker.onmessage = ({ data }) => receive[data.kind](data);
worker.onerror = (event) => {
  event.preventDefault();
  receive.failed({ message: event.message || "a part of the page is missing" });
};

const receive = {
  progress({ done, total }) {
    $("progress").value = done / total;
  },
  ready(data) {
    about = data.about;
    $("progress").hidden = true;
    for (const tab of tabs) tab.hidden = !(tab.dataset.direction in about.directions);
    say("");
    $("about").textContent = about.model ? `Model: ${about.model}.` : "";
    showExamples();
    if (!(direction in about.directions)) direction = Object.keys(about.directions)[0];
    show();
    document.documentElement.dataset.state = "ready";
    announceReady();
  },
  result({ id, picture }) {
    busy = false;
    if (id.subject === subject) {
      showResult(picture);
      document.documentElement.dataset.shown = id.asked;
    }
    pump();
  },
  failed({ id, message }) {
    busy = false;
    if (id === undefined) {
      $("progress").hidden = true;
      document.documentElement.dataset.state = "failed";
      say(`The networks could not be loaded (${message}). Reload the page, or try a newer browser.`, "fault");
    } else {
      say(`The translation failed (${message}). Reload the page.`, "fault");
    }
  },
};

function say(text, kind = "") {
  $("status").textContent = text;
  $("status").className = kind;
}

// --- translating: one at a time, always the newest; frames that came meanwhile are passed over

function translate() {
  asked += 1;
  document.documentElement.dataset.asked = asked;
  waiting = true;
  pump();
}

function forget() {
  subject += 1;
  waiting = false;
  work[direction].result = null;
}

function pump() {
  if (busy || !waiting || !about) return;
  const picture = source();
  waiting = false;
  if (!picture) return;
  busy = true;
  worker.postMessage({ id: { subject, asked }, direction, picture }, [picture.pixels.buffer]);
}

/** The picture to be translated now, or null. */
function source() {
  const canvas = onPad() ? (pad.blank ? null : $("pad")) : sourceCanvas();
  if (!canvas) return null;
  const { data, width, height } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return { width, height, pixels: data };
}

function sourceCanvas() {
  const { picture, framed } = work[direction];
  return picture && (framed ? $("frame") : picture);
}

const onPad = () => direction === "sketch2photo" && !work.sketch2photo.picture;

// --- showing

const tabs = [...document.querySelectorAll("[role=tab]")];

function show() {
  const state = work[direction];
  const { source: from, target: to } = WORDS[direction];
  for (const tab of tabs) {
    const selected = tab.dataset.direction === direction;
    tab.setAttribute("aria-selected", selected);
    tab.tabIndex = selected ? 0 : -1;
    if (selected) $("workspace").setAttribute("aria-labelledby", tab.id);
  }
  $("source-title").textContent = onPad() ? "Your drawing" : `Your ${from}`;
  $("result-title").textContent = `The ${to}`;
  $("workspace").classList.toggle("drawing", onPad());
  $("choose").hidden = onPad() || Boolean(state.picture);
  $("framing").hidden = $("frame-controls").hidden = !state.picture;
  $("pad-stage").hidden = $("pad-controls").hidden = !onPad();
  $("to-pad").hidden = direction !== "sketch2photo";
  $("send-on").hidden = direction !== "photo2sketch" || !("sketch2photo" in about.directions);
  for (const button of $("examples").children) button.hidden = button.dataset.domain !== from;
  if (state.picture) showFrame();
  if (onPad()) showPad();
  if (state.result) showResult(state.result);
  else showHint();
  translate();
}

function showHint() {
  $("compared").hidden = $("result-controls").hidden = true;
  $("hint").hidden = false;
  $("hint").textContent = onPad()
    ? "Draw a face on the pad, eyes on the line: the photo follows your strokes."
    : `Choose a ${WORDS[direction].source}, and its ${WORDS[direction].target} appears here.`;
}

function showResult(picture) {
  work[direction].result = picture;
  for (const id of ["result", "before"]) Object.assign($(id), { width: picture.width, height: picture.height });
  const pixels = new ImageData(picture.pixels, picture.width, picture.height);
  $("result").getContext("2d").putImageData(pixels, 0, 0);
  $("before").getContext("2d").drawImage(onPad() ? $("pad") : sourceCanvas(), 0, 0);
  $("result").setAttribute("aria-label", `The ${WORDS[direction].target} that the network made`);
  $("hint").hidden = true;
  $("compared").hidden = $("result-controls").hidden = false;
}

function showExamples() {
  $("examples").replaceChildren(
    ...about.examples.map(({ file, domain, words }) => {
      const button = document.createElement("button");
      const image = Object.assign(new Image(), { src: `examples/${file}`, alt: words });
      button.type = "button";
      button.dataset.domain = domain;
      button.append(image);
      button.onclick = () => take(canvasOf(image));
      return button;
    }),
  );
}

// --- choosing a picture

/** A canvas with something drawable on white, which is where transparency lies. */
function canvasOf(drawable) {
  const [width, height] = [drawable.naturalWidth ?? drawable.width, drawable.naturalHeight ?? drawable.height];
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (width * height)));
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale)) });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(drawable, 0, 0, canvas.width, canvas.height);
  return canvas;
}

async function open(file) {
  let bitmap;
  try {
    // Without colour management, as Pillow reads it: the network learnt from the numbers in the file.
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    say(`“${file.name || "That"}” is not a picture that this browser can read; use PNG, JPEG or WebP.`, "fault");
    return;
  }
  const { width, height } = bitmap;
  if (Math.min(width, height) < MINIMUM_SIDE) {
    say(`A picture must have at least ${MINIMUM_SIDE} pixels a side, got ${width} × ${height}; choose a larger one.`, "fault");
  } else {
    const canvas = canvasOf(bitmap);
    await ready;
    take(canvas);
  }
  bitmap.close();
}

function take(canvas) {
  say("");
  forget();
  work[direction].picture = canvas;
  work[direction].view = firstView(canvas);
  show();
}

$("file").onchange = ({ target }) => {
  if (target.files[0]) open(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
};
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) open(file);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    for (const stage of document.querySelectorAll(".stage")) stage.classList.toggle("dropping", kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) open(event.dataTransfer.files[0]);
  });
}

// --- the frame: a shift, a rotation and one scale between the picture and the network's portrait

const frameSize = () => {
  const [height, width] = about.directions[direction].image_size;
  return { width, height };
};

/** The template fills a frame as far as its aspect allows, in the middle (faces.align). */
function template() {
  const { width, height } = frameSize();
  const zoom = Math.min(width / TEMPLATE.width, height / TEMPLATE.height);
  const at = ([x, y]) => [
    x * zoom + (width - TEMPLATE.width * zoom) / 2,
    y * zoom + (height - TEMPLATE.height * zoom) / 2,
  ];
  return { zoom, leftEye: at(TEMPLATE.leftEye), rightEye: at(TEMPLATE.rightEye), oval: at(TEMPLATE.oval) };
}

/** The largest centred crop. `x`, `y`: the picture's pixel in the middle; `zoom`: power of two over that crop; degrees. */
function firstView(picture) {
  return { x: picture.width / 2, y: picture.height / 2, zoom: 0, turn: 0, taps: [] };
}

/** Picture pixels for one of the frame's. */
function viewScale({ picture, view }) {
  const { width, height } = frameSize();
  return Math.min(picture.width / width, picture.height / height) / 2 ** view.zoom;
}

function showFrame() {
  const state = work[direction];
  const canvas = $("frame");
  const { width, height } = state.framed ? frameSize() : state.picture;
  Object.assign(canvas, { width, height });
  $("framing").classList.toggle("framed", state.framed);
  $("framed").checked = state.framed;
  $("frame-sliders").hidden = !state.framed;
  $("zoom").value = state.view.zoom;
  $("turn").value = state.view.turn;
  drawGuide($("guide"), state.framed);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!state.framed) {
    context.drawImage(state.picture, 0, 0);
    return;
  }
  const scale = 1 / viewScale(state);
  context.imageSmoothingQuality = "high";
  context.translate(width / 2, height / 2);
  context.scale(scale, scale);
  context.rotate((state.view.turn * Math.PI) / 180);
  context.translate(-state.view.x, -state.view.y);
  // Past its edges the picture is mirrored.
  for (const column of [-1, 0, 1]) {
    for (const row of [-1, 0, 1]) {
      context.save();
      context.translate(column ? (column + 1) * state.picture.width : 0, row ? (row + 1) * state.picture.height : 0);
      context.scale(column ? -1 : 1, row ? -1 : 1);
      context.drawImage(state.picture, 0, 0);
      context.restore();
    }
  }
}

function drawGuide(svg, visible) {
  const { width, height } = frameSize();
  const { zoom, leftEye, rightEye, oval } = template();
  svg.toggleAttribute("hidden", !visible);
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const ring = ([x, y]) => `<circle cx="${x}" cy="${y}" r="${9 * zoom}" />`;
  svg.innerHTML =
    `<ellipse cx="${oval[0]}" cy="${oval[1]}" rx="${TEMPLATE.oval[2] * zoom}" ry="${TEMPLATE.oval[3] * zoom}" />` +
    `<line x1="0" x2="${width}" y1="${leftEye[1]}" y2="${leftEye[1]}" stroke-dasharray="4 4" />` +
    ring(leftEye) +
    ring(rightEye);
}

function change(values) {
  const { view, picture } = work[direction];
  Object.assign(view, values);
  view.x = Math.min(Math.max(view.x, 0), picture.width);
  view.y = Math.min(Math.max(view.y, 0), picture.height);
  view.zoom = Math.min(Math.max(view.zoom, -1), 4);
  view.turn = Math.min(Math.max(view.turn, -45), 45);
  showFrame();
  translate();
}

/** Move by pixels of the frame. */
function move(dx, dy) {
  const { view } = work[direction];
  const [x, y] = toPicture([dx, dy], work[direction]);
  change({ x: view.x - x, y: view.y - y });
}

/** A vector of the frame in the picture. */
function toPicture([dx, dy], state) {
  const scale = viewScale(state);
  const angle = (-state.view.turn * Math.PI) / 180;
  return [
    scale * (dx * Math.cos(angle) - dy * Math.sin(angle)),
    scale * (dx * Math.sin(angle) + dy * Math.cos(angle)),
  ];
}

/** Where on a canvas, in its own pixels, an event happened. */
function position(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
}

/** The similarity that puts two tapped points of the picture where the template has its eyes. */
function placeEyes([first, second]) {
  const [[ax, ay], [bx, by]] = first[0] < second[0] ? [first, second] : [second, first];
  const { leftEye, rightEye } = template();
  const { width, height } = frameSize();
  const state = work[direction];
  const scale = Math.hypot(bx - ax, by - ay) / (rightEye[0] - leftEye[0]);
  if (scale === 0) return;
  state.view.turn = (-Math.atan2(by - ay, bx - ax) * 180) / Math.PI;
  state.view.zoom = Math.log2(Math.min(state.picture.width / width, state.picture.height / height) / scale);
  const middle = [width / 2 - (leftEye[0] + rightEye[0]) / 2, height / 2 - leftEye[1]];
  const [dx, dy] = toPicture(middle, state);
  change({ x: (ax + bx) / 2 + dx, y: (ay + by) / 2 + dy });
}

function placing(on) {
  $("place-eyes").setAttribute("aria-pressed", on);
  work[direction].view.taps = [];
  $("framing").classList.toggle("placing", on);
  say(on ? "Tap the middle of one eye, then of the other." : "");
}

const pointers = new Map();
$("frame").addEventListener("pointerdown", (event) => {
  const state = work[direction];
  if (!state.framed) return;
  const at = position($("frame"), event);
  if ($("place-eyes").getAttribute("aria-pressed") === "true") {
    const { width, height } = frameSize();
    const [dx, dy] = toPicture([at[0] - width / 2, at[1] - height / 2], state);
    state.view.taps.push([state.view.x + dx, state.view.y + dy]);
    if (state.view.taps.length === 2) {
      const { taps } = state.view;
      placing(false);
      placeEyes(taps);
    }
    return;
  }
  $("frame").setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, at);
});
$("frame").addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const at = position($("frame"), event);
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
  pointers.set(event.pointerId, at);
  if (others.length === 0) {
    move(at[0] - before[0], at[1] - before[1]);
  } else {
    const [other] = others; // two fingers: zoom and turn
    const [was, is] = [before, at].map(([x, y]) => [x - other[0], y - other[1]]);
    const { view } = work[direction];
    const turned = Math.atan2(is[1], is[0]) - Math.atan2(was[1], was[0]);
    change({
      zoom: view.zoom + Math.log2(Math.hypot(...is) / Math.max(1, Math.hypot(...was))),
      turn: view.turn + (Math.atan2(Math.sin(turned), Math.cos(turned)) * 180) / Math.PI,
    });
  }
});
for (const kind of ["pointerup", "pointercancel"]) {
  $("frame").addEventListener(kind, (event) => pointers.delete(event.pointerId));
}
$("frame").addEventListener(
  "wheel",
  (event) => {
    if (!work[direction].framed) return;
    event.preventDefault();
    change({ zoom: work[direction].view.zoom - event.deltaY / 400 });
  },
  { passive: false },
);
$("frame").addEventListener("keydown", (event) => {
  const state = work[direction];
  if (!state.framed || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = event.shiftKey ? 10 : 2;
  const actions = {
    ArrowLeft: () => move(-step, 0),
    ArrowRight: () => move(step, 0),
    ArrowUp: () => move(0, -step),
    ArrowDown: () => move(0, step),
    "+": () => change({ zoom: state.view.zoom + 0.1 }),
    "=": () => change({ zoom: state.view.zoom + 0.1 }),
    "-": () => change({ zoom: state.view.zoom - 0.1 }),
    ",": () => change({ turn: state.view.turn - 1 }),
    ".": () => change({ turn: state.view.turn + 1 }),
  };
  if (event.key in actions) {
    event.preventDefault();
    actions[event.key]();
  }
});
$("zoom").oninput = ({ target }) => change({ zoom: Number(target.value) });
$("turn").oninput = ({ target }) => change({ turn: Number(target.value) });
$("reset-frame").onclick = () => change(firstView(work[direction].picture));
$("place-eyes").onclick = ({ target }) => placing(target.getAttribute("aria-pressed") !== "true");
$("framed").onchange = ({ target }) => {
  placing(false);
  work[direction].framed = target.checked;
  showFrame();
  translate();
};
$("to-pad").onclick = () => onto(sourceCanvas());

// --- the pad

const padContext = () => $("pad").getContext("2d", { willReadFrequently: true });

/** Make the pad, when it is first shown: white, and as large as the network's pictures times `PAD_SCALE`. */
function showPad() {
  const { width, height } = frameSize();
  if ($("pad").width !== width * PAD_SCALE || $("pad").height !== height * PAD_SCALE) {
    Object.assign($("pad"), { width: width * PAD_SCALE, height: height * PAD_SCALE });
    whiten();
    pad.cursor = [$("pad").width / 2, $("pad").height / 2];
  }
  drawGuide($("pad-guide"), $("show-guide").checked);
}

function whiten() {
  const context = padContext();
  context.globalAlpha = 1;
  context.fillStyle = "#fff";
  context.fillRect(0, 0, $("pad").width, $("pad").height);
}

function remember() {
  pad.undo.push({ pixels: padContext().getImageData(0, 0, $("pad").width, $("pad").height), blank: pad.blank });
  pad.undo.splice(0, pad.undo.length - UNDO_STEPS);
  $("undo").disabled = false;
}

/** Lay a picture whole on the pad, and go there. */
function onto(canvas) {
  forget();
  direction = "sketch2photo";
  work.sketch2photo.picture = null;
  work.sketch2photo.result = null;
  showPad();
  remember();
  whiten();
  const scale = Math.min($("pad").width / canvas.width, $("pad").height / canvas.height);
  const [width, height] = [canvas.width * scale, canvas.height * scale];
  const context = padContext();
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, ($("pad").width - width) / 2, ($("pad").height - height) / 2, width, height);
  pad.blank = false;
  show();
  $("pad").focus();
}

function stroke(from, to, pressure = 0.5) {
  const tool = document.querySelector("[name=tool]:checked").value;
  const context = padContext();
  const size = Number($("size").value) * PAD_SCALE;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = tool === "eraser" ? "#fff" : "#26282b";
  context.globalAlpha = tool === "soft" ? 0.15 : 1;
  context.lineWidth = size * { pencil: 0.4 + 1.2 * pressure, soft: 3, eraser: 4 }[tool];
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
  if (tool !== "eraser") pad.blank = false;
  if (!pad.blank) translate();
}

$("pad").addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  $("pad").setPointerCapture(event.pointerId);
  remember();
  pad.pen = position($("pad"), event);
  stroke(pad.pen, pad.pen, event.pressure || 0.5);
});
$("pad").addEventListener("pointermove", (event) => {
  if (!pad.pen) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const part of events.length ? events : [event]) {
    const at = position($("pad"), part);
    stroke(pad.pen, at, part.pressure || 0.5);
    pad.pen = at;
  }
});
for (const kind of ["pointerup", "pointercancel"]) $("pad").addEventListener(kind, () => (pad.pen = null));

// With the keyboard, a cursor on the guide stands for the hand.
let isDown = false;
$("pad").addEventListener("keydown", (event) => {
  if (event.ctrlKey && event.key === "z") return undo();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const step = (event.shiftKey ? 8 : 2) * PAD_SCALE;
  const steps = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (event.key === " ") {
    isDown = !isDown;
    if (isDown) {
      remember();
      stroke(pad.cursor, pad.cursor);
    }
    say(isDown ? "The pencil is down." : "The pencil is up.");
  } else if (event.key in steps) {
    const to = pad.cursor.map((value, axis) =>
      Math.min(Math.max(value + steps[event.key][axis], 0), [$("pad").width, $("pad").height][axis]),
    );
    if (isDown) stroke(pad.cursor, to);
    pad.cursor = to;
  } else {
    return;
  }
  event.preventDefault();
  showCursor();
});
$("pad").addEventListener("blur", () => {
  isDown = false;
  drawGuide($("pad-guide"), $("show-guide").checked);
});

function showCursor() {
  drawGuide($("pad-guide"), true);
  const [x, y] = pad.cursor.map((value) => value / PAD_SCALE);
  $("pad-guide").innerHTML += `<path id="cursor" d="M${x - 5} ${y}h10M${x} ${y - 5}v10" stroke-width="${isDown ? 2 : 1}" />`;
}

function undo() {
  const last = pad.undo.pop();
  if (!last) return;
  padContext().putImageData(last.pixels, 0, 0);
  pad.blank = last.blank;
  $("undo").disabled = pad.undo.length === 0;
  if (pad.blank) {
    forget();
    showHint();
  } else {
    translate();
  }
}

$("undo").onclick = undo;
$("clear").onclick = () => {
  remember();
  whiten();
  pad.blank = true;
  forget();
  showHint();
};
$("show-guide").onchange = () => drawGuide($("pad-guide"), $("show-guide").checked);

// --- the result

$("compare").oninput = ({ target }) => $("compared").style.setProperty("--at", `${target.value}%`);
$("send-on").onclick = () => onto($("result"));
$("download").onclick = () => {
  const name = `${WORDS[direction].target}.png`;
  $("result").toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser may still be saving it
  }, "image/png");
};

// --- the tabs

for (const [index, tab] of tabs.entries()) {
  tab.onclick = () => {
    if (!about || direction === tab.dataset.direction) return;
    stopPlacing();
    subject += 1;
    direction = tab.dataset.direction;
    show();
  };
  tab.onkeydown = (event) => {
    if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
    const next = tabs[(index + 1) % tabs.length];
    if (next.hidden) return;
    next.click();
    next.focus();
  };
}

function stopPlacing() {
  if (work[direction].view) placing(false);
}

say("Loading the networks …");
