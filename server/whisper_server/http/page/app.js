// The page at /ui: a file or a recording goes to the server's own API, and its text is shown as the events come.

import { clock, srt, vtt } from "./subtitles.js";

const $ = (id) => document.getElementById(id);
const transcript = $("transcript");
let chosen = null; // the File to send
let recorder = null;
let sending = null; // the AbortController of the request under way
let limits = {};

async function describe() {
  const about = await (await fetch("./")).json();
  limits = about;
  $("about").textContent = `${about.name} ${about.version}, model ${about.model}`;
  $("limits").textContent = `up to ${size(about.max_upload_bytes)} and ${length(about.max_audio_seconds)}; or record yourself`;
  $("key-row").hidden = !about.key_needed;
  if (about.translates === false) $("task").querySelector("[value=translations]").disabled = true;
}

function size(bytes) {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}

function length(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds >= 3600 ? `${+(seconds / 3600).toFixed(1)} h` : `${+(seconds / 60).toFixed(1)} min`;
}

function choose(file) {
  complain("");
  if (file.size > limits.max_upload_bytes) {
    complain(`${file.name} has ${size(file.size)}; this server takes ${size(limits.max_upload_bytes)}.`);
    return;
  }
  chosen = file;
  $("chosen").textContent = file.name;
  $("drop").classList.add("filled");
  $("start").disabled = false;
  say(`${file.name} is chosen.`);
}

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
  if (text) $("error").focus();
}

async function toggleRecording() {
  if (recorder) {
    recorder.stop();
    return;
  }
  let microphone;
  try {
    microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch {
    complain("The microphone can't be used: allow it for this page, which must be opened with https:// or on localhost.");
    return;
  }
  complain("");
  const parts = [];
  recorder = new MediaRecorder(microphone);
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  recorder.addEventListener("stop", () => {
    microphone.getTracks().forEach((track) => track.stop());
    const type = recorder.mimeType || "audio/webm";
    recorder = null;
    showRecording(false);
    const ending = type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm";
    choose(new File(parts, `recording.${ending}`, { type }));
    $("start").focus();
  });
  recorder.start();
  showRecording(true);
}

function showRecording(on) {
  $("record").setAttribute("aria-pressed", String(on));
  $("record-label").textContent = on ? "Stop recording" : "Record";
  say(on ? "Recording." : "");
}

function form() {
  const fields = new FormData();
  const model = "whisper-1";
  Object.entries({ model, response_format: "verbose_json", stream: "true" }).forEach(([name, value]) => fields.append(name, value));
  if ($("language").value.trim()) fields.append("language", $("language").value.trim());
  if ($("prompt").value.trim()) fields.append("prompt", $("prompt").value.trim());
  if ($("vad").checked) fields.append("vad", "true");
  fields.append("file", chosen);
  return fields;
}

async function transcribe() {
  complain("");
  if (!$("key-row").hidden && !$("key").value.trim()) {
    complain("This server needs an API key.");
    $("key").focus();
    return;
  }
  sending = new AbortController();
  busy(true);
  say("Sending.");
  transcript.replaceChildren();
  try {
    const headers = $("key").value ? { Authorization: `Bearer ${$("key").value.trim()}` } : {};
    const options = { method: "POST", body: form(), headers, signal: sending.signal };
    const response = await fetch(`v1/audio/${$("task").value}`, options);
    if (!response.ok) throw new Error(await reason(response));
    say("Transcribing.");
    await read(response);
  } catch (problem) {
    if (problem.name === "AbortError") say("Stopped.");
    else {
      say("");
      complain(problem instanceof TypeError ? "The server can't be reached; try again." : problem.message);
    }
    if (!transcript.textContent) empty();
  } finally {
    busy(false);
    sending = null;
  }
}

async function reason(response) {
  const wait = response.headers.get("Retry-After");
  let text = `The server answered with status ${response.status}.`;
  try {
    text = (await response.json()).error.message;
  } catch {
    // not the server itself, but a proxy before it
  }
  return wait ? `${text} (in ${wait} s)` : text;
}

async function read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The connection ended before the transcript did; try again.");
    rest += value;
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const line = event.split("\n").find((each) => each.startsWith("data: "));
      if (!line) continue;
      const data = JSON.parse(line.slice(6));
      if (data.error) throw new Error(data.error.message);
      if (data.type === "transcript.text.delta") data.segments.forEach(show);
      if (data.type === "transcript.text.done") {
        finish(data);
        return;
      }
    }
  }
}

function show(segment) {
  if (!segment.text.trim()) return;
  const line = document.createElement("p");
  const time = document.createElement("span");
  time.className = "time";
  time.setAttribute("aria-hidden", "true");
  time.textContent = clock(segment.start, ".", false).slice(0, -4);
  const text = document.createElement("span");
  text.textContent = segment.text.trim();
  line.append(time, text);
  transcript.append(line);
  transcript.scrollTop = transcript.scrollHeight;
}

function finish(done) {
  if (!done.text) empty("No speech was heard.");
  say(`Done: ${length(done.duration)} of ${done.language.replace(/^./, (first) => first.toUpperCase())}.`);
  const name = chosen.name.replace(/\.[^.]*$/, "");
  const files = { txt: done.text + "\n", srt: srt(done.segments), vtt: vtt(done.segments) };
  for (const [kind, content] of Object.entries(files)) {
    const link = $(`save-${kind}`);
    if (link.href) URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(new Blob([content], { type: "text/plain;charset=utf-8" }));
    link.download = `${name}.${kind}`;
  }
  $("copy").onclick = async () => {
    await navigator.clipboard.writeText(done.text);
    say("Copied.");
  };
  $("results").hidden = false;
}

function empty(text = "The text appears here as it is understood.") {
  const line = document.createElement("p");
  line.className = "empty";
  line.textContent = text;
  transcript.replaceChildren(line);
}

function busy(on) {
  $("start").disabled = on;
  $("cancel").hidden = !on;
  $("progress").hidden = !on;
  if (on) $("results").hidden = true;
  transcript.setAttribute("aria-busy", String(on));
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  transcribe();
});
$("cancel").addEventListener("click", () => sending?.abort());
$("record").addEventListener("click", toggleRecording);
$("file").addEventListener("change", () => $("file").files.length && choose($("file").files[0]));
$("key").value = sessionStorage.getItem("key") ?? "";
$("key").addEventListener("change", () => sessionStorage.setItem("key", $("key").value));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) choose(event.dataTransfer.files[0]);
  });
}
describe().catch(() => complain("The server can't be reached; reload the page."));
