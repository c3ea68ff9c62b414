// A request to the server's own API, and what it answers.

// Sends a form; the response, of which nothing has been read. Throws an Error that says what is wrong.
export async function send(path, form, key, signal) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const response = await fetch(path, { method: "POST", body: form, headers, signal });
  if (!response.ok) throw new Error(await reason(response));
  return response;
}

// The data of a response's server-sent events, to the one that says that all is done.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("The connection ended before the transcript did; try again.");
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const line = block.split("\n").find((each) => each.startsWith("data: "));
      if (!line) continue;
      const data = JSON.parse(line.slice(6));
      if (data.error) throw new Error(data.error.message);
      yield data;
      if (data.type === "transcript.text.done") return;
    }
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
