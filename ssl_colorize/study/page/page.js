// The study's page. The server decides everything; this script shows what it says and sends back the answers.

const SIDE = 256; // pixels
const PHOTO_BYTES = SIDE * SIDE * 3;
const NOTICE_AFTER = 2; // failed tries in a row

const $ = (selector, inside = document) => inside.querySelector(selector);
const trial = $("#trial");
const canvas = $("canvas", trial);
const context = canvas.getContext("2d", { alpha: false });
const caption = $(".caption", trial);
const choices = [...trial.querySelectorAll("[data-pick]")];

const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const frame = () => new Promise(requestAnimationFrame);

// ---- the server -----------------------------------------------------------------------------------------------------

// Ask until there is an answer: a server that is away for a while loses nothing. A refusal is one, and means that this
// page is behind (the pair was answered in another tab, say): what to show is then asked for anew.
async function ask(address, body, read = (response) => response.json()) {
  const options = body === undefined ? {} : {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  for (let failures = 0; ; failures++) {
    try {
      const response = await fetch(address, { cache: "no-store", ...options });
      if (response.status >= 400 && response.status < 500) throw new Behind(address);
      if (!response.ok) throw new Error(response.status);
      const content = await read(response);
      trouble("");
      return content;
    } catch (error) {
      if (error instanceof Behind) throw error;
      if (failures + 1 >= NOTICE_AFTER) trouble("The server cannot be reached. Your answers so far are stored; trying again …");
      await wait(Math.min(4000, 250 * 2 ** failures));
    }
  }
}

class Behind extends Error {}

function trouble(text) {
  const note = $("#trouble");
  note.hidden = !text;
  if (note.textContent !== text) note.textContent = text;
}

// ---- photos ---------------------------------------------------------------------------------------------------------

const loading = new Map(); // pair -> promise of its two pictures

function load(pair) {
  if (!loading.has(pair)) {
    const pictures = ask(`pairs/${pair}`, undefined, async (response) => {
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (bytes.length !== 2 * PHOTO_BYTES) throw new Error("half a pair");
      return [picture(bytes.subarray(0, PHOTO_BYTES)), picture(bytes.subarray(PHOTO_BYTES))];
    });
    pictures.catch(() => loading.delete(pair));
    loading.set(pair, pictures);
  }
  return loading.get(pair);
}

function picture(rgb) {
  const rgba = new Uint8ClampedArray(SIDE * SIDE * 4).fill(255);
  for (let from = 0, to = 0; from < rgb.length; from += 3, to += 4) rgba.set(rgb.subarray(from, from + 3), to);
  return new ImageData(rgba, SIDE, SIDE);
}

function blank() {
  context.fillStyle = getComputedStyle(canvas).backgroundColor;
  context.fillRect(0, 0, SIDE, SIDE);
}

// Show a picture for a time, to the nearest frame of the screen; the milliseconds that it was there.
async function show(pixels, ms) {
  const start = await frame();
  context.putImageData(pixels, 0, 0);
  let before = start;
  for (;;) {
    const now = await frame();
    if (now - start >= ms - (now - before) / 2) {
      blank();
      return now - start;
    }
    before = now;
  }
}

// ---- screens --------------------------------------------------------------------------------------------------------

function screen(name) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  scrollTo(0, 0);
  return $(`#${name}`);
}

const pressed = (button) => new Promise((done) => button.addEventListener("click", done, { once: true }));

function fill(state) {
  const seconds = state.photo_ms / 1000;
  const pairs = state.practice + state.trials;
  const minutes = Math.ceil((pairs * (2 * state.photo_ms + 2 * state.pause_ms + 2000)) / 60000);
  const values = {
    ...state,
    duration: seconds === 1 ? "one second" : `${seconds} seconds`,
    minutes: minutes === 1 ? "About a minute" : `About ${minutes} minutes`,
  };
  for (const place of document.querySelectorAll("[data-fill]")) place.textContent = values[place.dataset.fill] ?? "";
  for (const part of document.querySelectorAll("[data-if]")) part.hidden = !values[part.dataset.if];
}

async function welcome() {
  const button = $("button", screen("welcome"));
  await pressed(button);
  return ask("begin", {});
}

async function ready(state, left) {
  const section = screen("ready");
  const say = (title, text, button) => {
    $("h1", section).textContent = title;
    $("p", section).textContent = text;
    $("button", section).textContent = button;
  };
  const of = state[state.stage];
  if (state.place > 1) {
    say("Welcome back", `You left at ${name(state).toLowerCase()}. Everything before it is stored.`, "Go on");
  } else if (state.stage === "practice") {
    say("Practice first", `${of} pairs to get used to it. After each answer you are told which photo was real.`, "Start");
  } else {
    say(left ? "Now for real" : "Ready?", `${of} pairs, and from here on nothing is told. Take a breath, then start.`, "Start");
  }
  load(state.pair).catch(() => {});
  const button = $("button", section);
  button.focus({ preventScroll: true });
  await pressed(button);
}

const name = (state) =>
  `${state.stage === "practice" ? "Practice pair" : "Pair"} ${state.place} of ${state[state.stage]}`;

function end(state) {
  fill(state);
  const section = screen("end");
  $("h1", section).focus();
  return pressed($("button", section)).then(() => ask("begin", { again: true }));
}

// ---- a pair ---------------------------------------------------------------------------------------------------------

const KEYS = { ArrowLeft: "first", 1: "first", ArrowRight: "second", 2: "second" };

function choice() {
  return new Promise((done) => {
    const enable = (on) => choices.forEach((button) => button.setAttribute("aria-disabled", String(!on)));
    const finish = (pick) => {
      document.removeEventListener("keydown", key);
      trial.removeEventListener("click", click);
      enable(false);
      done(pick);
    };
    const key = (event) => {
      // A key held down since the last pair is no answer to this one.
      if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
      event.preventDefault();
      finish(KEYS[event.key]);
    };
    const click = (event) => {
      const button = event.target.closest("[data-pick]");
      if (button) finish(button.dataset.pick);
    };
    document.addEventListener("keydown", key);
    trial.addEventListener("click", click);
    enable(true);
  });
}

function say(text, more = "") {
  caption.textContent = text;
  if (more) caption.append(Object.assign(document.createElement("small"), { textContent: more }));
}

async function pair(state) {
  screen("trial");
  $(".choices", trial).hidden = false;
  $(".feedback", trial).hidden = true;
  $(".progress span", trial).textContent = name(state);
  Object.assign($("progress", trial), { value: state.place - 1, max: state[state.stage] });
  blank();
  say("");
  const pictures = await load(state.pair);
  const shown = [];
  for (const [place, pixels] of pictures.entries()) {
    await wait(state.pause_ms);
    say(place ? "Second" : "First");
    shown.push(await show(pixels, state.photo_ms));
    say("");
  }
  say("Which one was real?");
  const asked = performance.now();
  if (state.following) load(state.following).catch(() => {});
  const picked = await choice();
  const took = performance.now() - asked;
  const { feedback, state: after } = await ask(`pairs/${state.pair}`, {
    picked, first_ms: shown[0], second_ms: shown[1], took_ms: took,
  });
  loading.delete(state.pair);
  if (feedback) await tell(feedback);
  return after;
}

async function tell({ right, real }) {
  say(right ? "✓ Right" : "✗ Not this time", `The ${real} one was real.`);
  $(".choices", trial).hidden = true;
  $(".feedback", trial).hidden = false;
  const button = $(".feedback button", trial);
  button.focus({ preventScroll: true });
  await pressed(button);
}

// ---- the session ----------------------------------------------------------------------------------------------------

async function next(state, before) {
  if (state.stage === "welcome") return welcome();
  if (state.stage === "end") return end(state);
  if (state.stage !== before?.stage) await ready(state, before?.stage === "practice");
  return pair(state);
}

async function session() {
  let before;
  let state = await ask("state");
  for (;;) {
    fill(state);
    try {
      [before, state] = [state, await next(state, before)];
    } catch (error) {
      if (!(error instanceof Behind)) throw error;
      [before, state] = [undefined, await ask("state")];
    }
  }
}

session();
