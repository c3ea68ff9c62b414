// A recording from the microphone, with its time and its level.

const MOST_DECIBELS = 60;

export class Recording {
  // `tick` is called ten times a second with the seconds so far and a level from 0 to 1. Throws where there is no microphone,
  // and an error with a cause where there is one and it can't be recorded.
  static async begin(tick) {
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    try {
      return new Recording(microphone, tick);
    } catch (cause) {
      microphone.getTracks().forEach((track) => track.stop());
      throw new Error(`This browser can't record (${cause.message})`, { cause });
    }
  }

  constructor(microphone, tick) {
    this.microphone = microphone;
    this.parts = [];
    this.recorder = new MediaRecorder(microphone);
    this.recorder.addEventListener("dataavailable", (event) => this.parts.push(event.data));
    this.context = new AudioContext();
    const analyser = new AnalyserNode(this.context, { fftSize: 2048 });
    this.context.createMediaStreamSource(microphone).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const begin = performance.now();
    this.recorder.start();
    this.timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      tick((performance.now() - begin) / 1000, level(samples));
    }, 100);
  }

  // The File that was recorded.
  async end() {
    clearInterval(this.timer);
    const stopped = new Promise((resolve) => this.recorder.addEventListener("stop", resolve));
    this.recorder.stop();
    await stopped;
    this.microphone.getTracks().forEach((track) => track.stop());
    await this.context.close();
    const type = this.recorder.mimeType || "audio/webm";
    const ending = type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm";
    return new File(this.parts, `recording.${ending}`, { type });
  }
}

function level(samples) {
  const power = samples.reduce((sum, one) => sum + one * one, 0) / samples.length;
  return Math.max(0, Math.min(1, 1 + (10 * Math.log10(power + 1e-12)) / MOST_DECIBELS));
}
