// node node_openai.mjs FILE. Needs `npm install openai`.
import { createReadStream } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.WHISPER_URL}/v1`,
  apiKey: process.env.WHISPER_API_KEY ?? "none",
  maxRetries: 5,
  timeout: 600_000, // milliseconds
});
const answer = await client.audio.transcriptions.create({
  file: createReadStream(process.argv[2]),
  model: "whisper-1",
  response_format: "verbose_json",
  timestamp_granularities: ["segment"],
});
for (const { start, end, text } of answer.segments) {
  console.log(`${start.toFixed(2)} - ${end.toFixed(2)} ${text.trim()}`);
}
