// OpenAI's client for Node does all it can do with audio. Called with SERVER, KEY, AUDIO and TEXT in the environment.

import assert from "node:assert/strict";
import fs from "node:fs";
import test from "node:test";
import OpenAI, { APIError, AuthenticationError, BadRequestError, NotFoundError, toFile } from "openai";

const { SERVER, KEY, AUDIO, TEXT } = process.env;
const client = new OpenAI({ baseURL: `${SERVER}/v1`, apiKey: KEY, maxRetries: 0 });
const model = "whisper-1";
const file = () => fs.createReadStream(AUDIO);

test("models", async () => {
  const names = [];
  for await (const each of await client.models.list()) names.push(each.id);
  assert.deepEqual(names, ["demo", model]);
  assert.equal((await client.models.retrieve("demo")).id, "demo");
  await assert.rejects(client.models.retrieve("gpt-4o-transcribe"), NotFoundError);
});

test("json", async () => {
  const { data, response } = await client.audio.transcriptions.create({ file: file(), model }).withResponse();
  assert.equal(data.text, TEXT);
  assert.ok(response.headers.get("x-request-id"));
});

test("buffers", async () => {
  const buffer = await toFile(fs.readFileSync(AUDIO), "speech.wav");
  assert.equal((await client.audio.transcriptions.create({ file: buffer, model, temperature: 0 })).text, TEXT);
});

test("text and subtitles", async () => {
  for (const [response_format, expected] of [["text", new RegExp(`^${TEXT}\n$`)], ["srt", /^1\n00:00:00,/], ["vtt", /^WEBVTT\n\n00:00/]]) {
    assert.match(await client.audio.transcriptions.create({ file: file(), model, response_format }), expected);
  }
});

test("verbose_json with words", async () => {
  const options = { response_format: "verbose_json", timestamp_granularities: ["word", "segment"] };
  const all = await client.audio.transcriptions.create({ file: file(), model, ...options });
  assert.equal(all.language, "english");
  assert.ok(all.segments[0].end > all.segments[0].start);
  assert.equal(all.words[0].word, "hello");
});

test("stream", async () => {
  let deltas = "";
  let done;
  let usage;
  for await (const event of await client.audio.transcriptions.create({ file: file(), model, stream: true })) {
    if (event.type === "transcript.text.delta") deltas += event.delta;
    if (event.type === "transcript.text.done") ({ text: done, usage } = event);
  }
  assert.equal(done, TEXT);
  assert.equal(deltas, TEXT);
  assert.deepEqual(usage, { type: "duration", seconds: 5 });
});

test("translation", async () => {
  assert.equal(typeof (await client.audio.translations.create({ file: file(), model })).text, "string");
});

test("errors", async () => {
  const wrongKey = new OpenAI({ baseURL: `${SERVER}/v1`, apiKey: "wrong", maxRetries: 5 });
  await assert.rejects(wrongKey.models.list(), (problem) => problem instanceof AuthenticationError && problem.code === "invalid_api_key");
  const broken = await toFile(Buffer.from("no audio"), "broken.wav");
  await assert.rejects(client.audio.transcriptions.create({ file: broken, model }), (problem) => {
    return problem instanceof BadRequestError && problem.message.includes("broken.wav: it is not audio");
  });
  const field = { response_format: "diarized_json" };
  await assert.rejects(client.audio.transcriptions.create({ file: file(), model, ...field }), (problem) => problem.param === "response_format");
});

test("retries until there is room", async () => {
  const patient = new OpenAI({ baseURL: `${SERVER}/v1`, apiKey: KEY, maxRetries: 100 });
  const impatient = new OpenAI({ baseURL: `${SERVER}/v1`, apiKey: KEY, maxRetries: 0 });
  // A stream can be sent only once: the client does not retry with one.
  const file = await toFile(fs.readFileSync(AUDIO), "speech.wav");
  const crowd = Array.from({ length: 4 }, () => patient.audio.transcriptions.create({ file, model }));
  const refused = await Promise.allSettled(Array.from({ length: 8 }, () => impatient.audio.transcriptions.create({ file, model })));
  assert.ok(refused.some((each) => each.status === "rejected"));
  for (const { reason } of refused.filter((each) => each.status === "rejected")) {
    assert.ok(reason instanceof APIError);
    assert.equal(reason.status, 429);
  }
  for (const { text } of await Promise.all(crowd)) assert.equal(text, TEXT);
});
