// A transcript's segments as files: as the server writes them for response_format srt and vtt, and as text with lines.

export function srt(segments) {
  return spoken(segments).map((one, index) => `${index + 1}\n${clock(one.start, ",", true)} --> ${clock(one.end, ",", true)}\n${cue(one)}\n\n`).join("");
}

export function vtt(segments) {
  const cues = spoken(segments).map((one) => `${clock(one.start, ".", false)} --> ${clock(one.end, ".", false)}\n${cue(one)}\n\n`);
  return "WEBVTT\n\n" + cues.join("");
}

export function lines(segments) {
  return spoken(segments).map((one) => one.text.trim() + "\n").join("");
}

// Players show an empty cue as a box.
export function spoken(segments) {
  return segments.filter((one) => one.text.trim());
}

export function clock(seconds, point, alwaysHours) {
  const all = Math.max(0, Math.round(seconds * 1000));
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const hours = Math.floor(all / 3600000);
  const head = alwaysHours || hours ? `${two(hours)}:` : "";
  return `${head}${two((all / 60000) % 60)}:${two((all / 1000) % 60)}${point}${String(all % 1000).padStart(3, "0")}`;
}

// As people write it: minutes and seconds.
export function moment(seconds) {
  return clock(Math.floor(seconds), ".", false).slice(0, -4);
}

function cue(one) {
  // An arrow in the text would be taken for the line with the times.
  return one.text.trim().replaceAll("-->", "->");
}
