/**
 * Keeps events from getting lost between two event streams.
 *
 * Gradio's page ends its stream at the server's message `close_stream`. If it has queued another event just before, which
 * the server receives just after, it does not open another stream, and the event's result is never shown: a click seems to do
 * nothing. So while an event is in flight, the message is dropped here, and the stream continues with a new request.
 */
export default function keepStream() {
  const request = globalThis.fetch;
  const inFlight = new Set(); // ids of events, and a symbol for each that is being queued
  const completed = new Set(); // ids of events that completed before the page learned them

  globalThis.fetch = (resource, options) => {
    const { pathname } = new URL(resource instanceof Request ? resource.url : resource, document.baseURI);
    if (pathname.endsWith("/queue/join")) return join(resource, options);
    if (pathname.endsWith("/queue/data")) return stream(resource, options);
    return request(resource, options);
  };

  async function join(...event) {
    const queued = Symbol();
    inFlight.add(queued);
    try {
      const response = await request(...event);
      const { event_id: id } = await response.clone().json().catch(() => ({}));
      if (id && !completed.delete(id)) inFlight.add(id);
      return response;
    } finally {
      inFlight.delete(queued);
    }
  }

  async function stream(...source) {
    const response = await request(...source);
    if (!response.ok) return response;
    let messages = read(response);
    const body = new ReadableStream({
      async pull(controller) {
        for (;;) {
          const { value: message, done } = await messages.next();
          if (done) return controller.close();
          if (isLast(message) && inFlight.size) {
            const next = await request(...source);
            if (next.ok) {
              messages = read(next);
              continue;
            }
          }
          return controller.enqueue(new TextEncoder().encode(`${message}\n\n`));
        }
      },
      cancel: () => messages.return(),
    });
    return new Response(body, { status: response.status, headers: response.headers });
  }

  /** Yields the messages of an event stream, as text. */
  async function* read(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    try {
      for (;;) {
        const { value: piece, done } = await reader.read();
        if (done) return;
        const messages = (rest + piece).split("\n\n");
        rest = messages.pop();
        yield* messages;
      }
    } catch (error) {
      // The page reports all events as failed, unless it has ended the stream itself.
      if (error.name !== "AbortError") inFlight.clear();
      throw error;
    } finally {
      reader.cancel().catch(() => {});
    }
  }

  /** Whether this is the server's last message of a stream. Records the events that have completed. */
  function isLast(message) {
    if (!/close_stream|process_completed/.test(message)) return false; // skip parsing: most messages are long, and only drawn
    const { msg, event_id: id } = JSON.parse(message.replace(/^data: /, ""));
    if (msg === "process_completed" && !inFlight.delete(id)) completed.add(id);
    return msg === "close_stream";
  }
}
