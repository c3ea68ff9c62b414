// One file's transcript as it grows: its lines, a player, how far it is, and what can be done with it.

import { lines, moment, spoken, srt, vtt } from "./subtitles.js";

export class Result {
  constructor(file, say) {
    this.file = file;
    this.say = say;
    this.segments = [];
    this.element = document.getElementById("result").content.firstElementChild.cloneNode(true);
    this.find = (name) => this.element.querySelector(`.${name}`);
    this.find("name").textContent = file.name;
    this.urls = [];
    this.player = this.find("player");
    this.player.src = this.url(file);
    this.player.addEventListener("error", () => this.mute());
    this.player.addEventListener("timeupdate", () => this.follow());
  }

  // `seconds`: how long the audio is; 0 where that is not known.
  begin(seconds) {
    this.seconds = seconds;
    if (seconds) this.find("progress").max = seconds;
  }

  add(segments) {
    const list = this.find("lines");
    // Who reads further up stays there.
    const follows = list.scrollTop + list.clientHeight >= list.scrollHeight - 48;
    this.segments.push(...segments);
    spoken(segments).forEach((one) => list.append(this.line(one)));
    if (this.seconds && segments.length) this.find("progress").value = Math.min(this.seconds, segments.at(-1).end);
    if (follows) list.scrollTop = list.scrollHeight;
  }

  // No more comes: what there is can be copied and saved. `empty` is shown where nothing was said.
  end(empty) {
    this.find("progress").hidden = true;
    this.find("lines").setAttribute("aria-busy", "false");
    const text = lines(this.segments);
    if (!text && !empty) return;
    if (!text) {
      const line = document.createElement("p");
      line.className = "empty";
      line.textContent = empty;
      this.find("lines").append(line);
      return;
    }
    const name = this.file.name.replace(/\.[^.]*$/, "");
    for (const [kind, content] of Object.entries({ txt: text, srt: srt(this.segments), vtt: vtt(this.segments) })) {
      const link = this.find(`save-${kind}`);
      link.href = this.url(new Blob([content], { type: "text/plain;charset=utf-8" }));
      link.download = `${name}.${kind}`;
    }
    this.find("copy").addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(text);
        this.say("Copied.");
      } catch {
        this.say("The browser can't copy here; select the text."); // as on a page of http://
      }
    });
    this.find("actions").hidden = false;
  }

  remove() {
    this.player.pause();
    this.urls.forEach((each) => URL.revokeObjectURL(each));
    this.element.remove();
  }

  url(content) {
    this.urls.push(URL.createObjectURL(content));
    return this.urls.at(-1);
  }

  line(segment) {
    const line = document.createElement("p");
    const time = document.createElement("button");
    time.type = "button";
    time.className = "time";
    time.textContent = moment(segment.start);
    time.setAttribute("aria-label", `Play from ${moment(segment.start)}`);
    time.disabled = this.player.hidden;
    time.addEventListener("click", () => {
      this.player.currentTime = segment.start;
      this.player.play();
    });
    const text = document.createElement("span");
    text.textContent = segment.text.trim();
    line.append(time, text);
    line.dataset.start = segment.start;
    line.dataset.end = segment.end;
    return line;
  }

  // The browser can't play what the server could decode.
  mute() {
    this.player.hidden = true;
    this.element.querySelectorAll(".time").forEach((each) => (each.disabled = true));
  }

  // Show which line is heard.
  follow() {
    const now = this.player.currentTime;
    for (const line of this.find("lines").children) {
      line.classList.toggle("now", !this.player.paused && line.dataset.start <= now && now < line.dataset.end);
    }
  }
}
