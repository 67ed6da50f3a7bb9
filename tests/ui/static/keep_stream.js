// A page that queues a second event just before the server ends the stream of the first, and, like Gradio's, opens a stream
// only if none is open. Prints the messages that reach the page, and the number of requests for streams.
import keepStream from "../../../phi3_ui/ui/static/keep_stream.js";

const URLS = { join: "http://localhost/gradio_api/queue/join?", data: "http://localhost/gradio_api/queue/data?session_hash=x" };
const encode = (message) => new TextEncoder().encode(`data: ${JSON.stringify(message)}\n\n`);
const controllers = [];
const joins = [];

globalThis.document = { baseURI: "http://localhost/" };
globalThis.fetch = (resource) => {
  if (String(resource.url ?? resource) === URLS.join) return new Promise((answer) => joins.push(answer));
  const body = new ReadableStream({ start: (controller) => controllers.push(controller) });
  return Promise.resolve(new Response(body, { headers: { "content-type": "text/event-stream" } }));
};
keepStream();

const join = (id) => {
  const response = fetch(URLS.join, { method: "POST" });
  return { response, answer: () => joins.shift()(Response.json({ event_id: id })) };
};
const send = (stream, ...messages) => messages.forEach((message) => controllers[stream].enqueue(encode(message)));
const complete = (id) => ({ msg: "process_completed", event_id: id, output: "close_stream" });
const CLOSE = { msg: "close_stream" };

const first = join("a");
first.answer();
await first.response;
const reader = (await fetch(new Request(URLS.data))).body.pipeThrough(new TextDecoderStream()).getReader();
const received = [];
const receive = async () => received.push(JSON.parse((await reader.read()).value.slice("data: ".length)).msg);

send(0, { msg: "process_starts", event_id: "a" }, complete("a"));
await receive();
await receive();
const second = join("b");
send(0, CLOSE); // the server has not received the second event
controllers[0].close();
const next = receive();
await new Promise((done) => setTimeout(done)); // the stream continues before the page knows the event
second.answer();
await second.response;
send(1, complete("b"), CLOSE);
controllers[1].close();
await next;
await receive();
const { done } = await reader.read();
console.log(JSON.stringify({ received, done, streams: controllers.length }));
