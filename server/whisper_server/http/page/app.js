// The page at /ui: files or a recording go to the server's own API, and their text is shown as it comes.

import { events, send } from "./events.js";
import { Recording } from "./recording.js";
import { Result } from "./result.js";
import { moment } from "./subtitles.js";

const $ = (id) => document.getElementById(id);
const LOADING_SECONDS = 2;
let chosen = []; // Files to send
let results = [];
let recording = null;
let toggling = false; // asking for the microphone, or writing the recording's end: a second click does nothing
let sending = null; // the AbortController of the requests under way
let limits = {};

async function describe() {
  const about = await (await fetch("./", { headers: { Accept: "application/json" } })).json();
  limits = about;
  $("about").textContent = `${about.name} ${about.version}, model ${about.model}`;
  $("demo").hidden = about.model !== "demo";
  $("limits").textContent = `up to ${size(about.max_upload_bytes)} and ${length(about.max_audio_seconds)} each; or record yourself`;
  $("key-row").hidden = !about.key_needed;
  if (!about.languages) {
    say("The model is being loaded.");
    setTimeout(() => describe().catch(unreachable), LOADING_SECONDS * 1000);
    return;
  }
  say("");
  if (about.translates === false) $("task").querySelector("[value=translations]").disabled = true;
  const known = Object.entries(about.languages).map(([code, name]) => new Option(capital(name), code));
  known.sort((one, other) => one.text.localeCompare(other.text));
  $("language").append(...known);
  if (about.language) $("language").value = about.language;
}

function size(bytes) {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

function length(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds >= 3600 ? `${+(seconds / 3600).toFixed(1)} h` : `${+(seconds / 60).toFixed(1)} min`;
}

function capital(name) {
  return name.replace(/(^| )./g, (first) => first.toUpperCase());
}

function choose(files) {
  complain("");
  const large = files.find((file) => file.size > limits.max_upload_bytes);
  if (large) {
    complain(`${large.name} has ${size(large.size)}; this server takes ${size(limits.max_upload_bytes)}.`);
    return;
  }
  chosen = files;
  const names = files.map((file) => file.name).join(", ");
  $("chosen").textContent = names || "No file is chosen";
  $("drop").classList.toggle("filled", files.length > 0);
  enable();
  if (names) say(files.length > 1 ? `${files.length} files are chosen.` : `${names} is chosen.`);
}

function enable() {
  $("start").disabled = !chosen.length || recording !== null || sending !== null;
}

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
  if (text) $("error").focus();
}

function unreachable() {
  complain("The server can't be reached; reload the page.");
}

async function toggleRecording() {
  if (toggling) return;
  toggling = true;
  try {
    await (recording ? endRecording() : beginRecording());
  } finally {
    toggling = false;
  }
}

async function endRecording() {
  const file = await recording.end();
  recording = null;
  showRecording(false);
  choose([file]);
  $("start").focus();
}

async function beginRecording() {
  try {
    recording = await Recording.begin((seconds, level) => {
      $("elapsed").textContent = moment(seconds);
      $("level").value = level;
    });
  } catch (problem) {
    complain(
      problem.cause
        ? `${problem.message}; choose a file.`
        : "The microphone can't be used: allow it for this page, which must be opened with https:// or on localhost.",
    );
    return;
  }
  choose([]);
  showRecording(true);
}

function showRecording(on) {
  $("record").setAttribute("aria-pressed", String(on));
  $("record-label").textContent = on ? "Stop recording" : "Record";
  $("recording").hidden = !on;
  $("chosen").hidden = on;
  $("file").disabled = on;
  $("elapsed").textContent = moment(0);
  say(on ? "Recording." : "");
}

function form(file) {
  const fields = new FormData();
  const values = { model: "whisper-1", response_format: "verbose_json", stream: "true" };
  Object.assign(values, { language: $("language").value, prompt: $("prompt").value.trim() });
  if ($("vad").checked) values.vad = "true";
  Object.entries(values).forEach(([name, value]) => fields.append(name, value));
  fields.append("file", file);
  return fields;
}

async function transcribeAll() {
  complain("");
  if (!$("key-row").hidden && !$("key").value.trim()) {
    complain("This server needs an API key.");
    $("key").focus();
    return;
  }
  sending = new AbortController();
  busy(true);
  results.forEach((each) => each.remove());
  results = [];
  $("empty").hidden = true;
  let told = "";
  for (const file of chosen) {
    try {
      told = await transcribe(file);
    } catch (problem) {
      if (problem.name === "AbortError") {
        told = "Stopped.";
        break;
      }
      complain(problem instanceof TypeError ? "The server can't be reached; try again." : problem.message);
    }
  }
  say(told);
  sending = null;
  busy(false);
}

// What to say of it when it is done; throws what went wrong. What has been understood until then stays.
async function transcribe(file) {
  const result = new Result(file, say);
  results.push(result);
  $("results").append(result.element);
  if (results.length === 1) show($("transcript"));
  say("Sending.");
  let empty = "";
  try {
    const response = await send(`v1/audio/${$("task").value}`, form(file), $("key").value.trim(), sending.signal);
    result.begin(Number(response.headers.get("X-Audio-Seconds")));
    say("Transcribing.");
    for await (const event of events(response)) {
      if (event.type === "transcript.text.delta") result.add(event.segments);
      if (event.type !== "transcript.text.done") continue;
      empty = "No speech was heard.";
      return `Done: ${length(event.duration)} of ${capital(event.language)}.`;
    }
    return "";
  } finally {
    result.end(empty);
    if (!empty && !result.segments.length) result.remove();
    $("empty").hidden = results.some((each) => each.element.isConnected);
  }
}

function show(section) {
  if (section.getBoundingClientRect().top < innerHeight * 0.6) return;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  section.scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
}

function busy(on) {
  $("cancel").hidden = !on;
  enable();
  if (!on && document.activeElement === document.body) $("start").focus({ preventScroll: true });
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  transcribeAll();
});
$("cancel").addEventListener("click", () => sending?.abort());
$("record").addEventListener("click", toggleRecording);
$("file").addEventListener("change", () => $("file").files.length && choose([...$("file").files]));
$("key").value = sessionStorage.getItem("key") ?? "";
$("key").addEventListener("change", () => sessionStorage.setItem("key", $("key").value));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length && !recording) choose([...event.dataTransfer.files]);
  });
}
describe().catch(unreachable);
