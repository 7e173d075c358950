// The pencil pad. One frame is with the server at any time; when it is back, the newest one follows, so that no stale
// frame waits anywhere. `element`, `props` (its value is the name of the model) and `server` come from Gradio.
const find = (selector) => element.querySelector(selector);
const canvas = find("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const photo = find(".pad-photo img");
const hint = find(".pad-hint");
const status = find(".pad-status");
const savePhoto = find("[data-action=save-photo]");
const saveDrawing = find("[data-action=save-drawing]");
const cursor = find(".pad-cursor");
const undoButton = find("[data-action=undo]");
const UNDO_STEPS = 20;
const WAIT_WHEN_BUSY = 800; // milliseconds

let tool = "pencil";
let last = null; // where the stroke under way has come to
let undo = [];
let changed = false;
let asking = false;

const isBlank = () => {
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  for (let i = 0; i < pixels.length; i += 4) if (pixels[i] < 250) return false;
  return true;
};

const showPhoto = (source) => {
  if (source) photo.src = source;
  photo.hidden = savePhoto.hidden = !source;
  hint.hidden = !!source;
};

const ask = (exact) => server.paint({ drawing: canvas.toDataURL("image/png"), model: props.value, exact });

async function follow() {
  changed = true;
  if (asking) return;
  asking = true;
  find(".pad").dataset.settled = false;
  while (changed) {
    changed = false;
    if (isBlank()) {
      showPhoto(null);
      status.textContent = "The page is blank: draw a face on it.";
      continue;
    }
    try {
      const answer = await ask(false);
      if (answer.photo) showPhoto(answer.photo);
      status.textContent = answer.note || "";
      if (answer.busy) {
        changed = true;
        await new Promise((resolve) => setTimeout(resolve, WAIT_WHEN_BUSY));
      }
    } catch (error) {
      status.textContent = "The server does not answer. Your drawing is still here; draw on, or try again later.";
    }
  }
  asking = false;
  find(".pad").dataset.settled = true;
}

const keep = () => {
  undo.push(pen.getImageData(0, 0, canvas.width, canvas.height));
  if (undo.length > UNDO_STEPS) undo.shift();
  undoButton.disabled = false;
};

const wipe = () => {
  pen.globalAlpha = 1;
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
};

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) / box.width) * canvas.width,
    y: ((event.clientY - box.top) / box.height) * canvas.height,
    pressure: event.pointerType === "pen" ? 0.4 + 1.2 * event.pressure : 1,
  };
};

function stroke(from, to) {
  if (tool === "soft") {
    // Stamps that fade out, close to each other: graphite laid on its side.
    const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / 2));
    for (let step = 1; step <= steps; step++) {
      const x = from.x + ((to.x - from.x) * step) / steps;
      const y = from.y + ((to.y - from.y) * step) / steps;
      const stamp = pen.createRadialGradient(x, y, 0, x, y, 10);
      stamp.addColorStop(0, `rgba(40, 40, 40, ${0.09 * to.pressure})`);
      stamp.addColorStop(1, "rgba(40, 40, 40, 0)");
      pen.fillStyle = stamp;
      pen.fillRect(x - 10, y - 10, 20, 20);
    }
    return;
  }
  pen.strokeStyle = tool === "eraser" ? "#fff" : "#444";
  pen.lineWidth = tool === "eraser" ? 26 : 2.6 * to.pressure;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(from.x, from.y);
  pen.lineTo(to.x, to.y);
  pen.stroke();
}

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  keep();
  last = place(event);
  stroke(last, last);
  follow();
});
canvas.addEventListener("pointermove", (event) => {
  if (!last || !canvas.hasPointerCapture(event.pointerId)) return;
  const moves = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  for (const move of moves.length ? moves : [event]) {
    const next = place(move);
    stroke(last, next);
    last = next;
  }
  follow();
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));

// The same by keyboard.
const hand = { x: canvas.width / 2, y: canvas.height / 2, pressure: 1, down: false };
const showHand = () => {
  cursor.style.left = (100 * hand.x) / canvas.width + "%";
  cursor.style.top = (100 * hand.y) / canvas.height + "%";
  cursor.classList.toggle("pad-cursor-down", hand.down);
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", (event) => {
  if (event.key === " ") {
    hand.down = !hand.down;
    if (hand.down) {
      keep();
      stroke(hand, hand);
      follow();
    }
    status.textContent = hand.down ? "The pencil is down." : "The pencil is lifted.";
  } else if (ARROWS[event.key]) {
    const before = { ...hand };
    const step = event.shiftKey ? 20 : 5;
    hand.x = Math.min(canvas.width, Math.max(0, hand.x + step * ARROWS[event.key][0]));
    hand.y = Math.min(canvas.height, Math.max(0, hand.y + step * ARROWS[event.key][1]));
    if (hand.down) {
      stroke(before, hand);
      follow();
    }
  } else return;
  event.preventDefault();
  cursor.hidden = false;
  showHand();
});
canvas.addEventListener("blur", () => {
  cursor.hidden = true;
  hand.down = false;
});

const startFrom = (source) => {
  const image = new Image();
  image.onload = () => {
    keep();
    wipe();
    pen.imageSmoothingQuality = "high";
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    follow();
  };
  image.src = source;
};
// Another part of the page hands a sketch over, maybe before the pad is there.
const takeOver = () => {
  if (window.sketchForPad) startFrom(window.sketchForPad);
  window.sketchForPad = null;
};
document.addEventListener("sketch-for-pad", takeOver);

element.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-tool], [data-action]");
  if (!button) return;
  if (button.dataset.tool) {
    tool = button.dataset.tool;
    for (const other of element.querySelectorAll("[data-tool]")) other.setAttribute("aria-pressed", other === button);
  }
  switch (button.dataset.action) {
    case "undo":
      if (undo.length) pen.putImageData(undo.pop(), 0, 0);
      undoButton.disabled = !undo.length;
      follow();
      break;
    case "blank":
      keep();
      wipe();
      follow();
      break;
    case "example":
      startFrom(props.example);
      break;
    case "guide":
      find(".pad-guide").toggleAttribute("hidden", !button.checked);
      break;
    case "save-drawing":
      saveDrawing.href = canvas.toDataURL("image/png");
      break;
    case "save-photo":
      if (savePhoto.href.startsWith("data:image/png")) break; // this click is our own, below
      event.preventDefault();
      try {
        const answer = await ask(true);
        if (answer.photo) {
          savePhoto.href = answer.photo;
          savePhoto.click();
          savePhoto.href = "#";
        }
        status.textContent = answer.note || "";
      } catch (error) {
        status.textContent = "The server does not answer; try again later.";
      }
  }
});

wipe();
takeOver();
