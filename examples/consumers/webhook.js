// Takes events as webhooks: PORT=8080 node webhook.js
import { HTTP } from "cloudevents";
import express from "express";

const seen = new Set();
const app = express();
// The SDK parses the body by its media type; it wants text, and leaves bytes as they are.
app.use(express.raw({ type: () => true, limit: "2mb" }));
app.post("/", (request, response) => {
  const isText = /json|^text\/|xml/.test(request.headers["content-type"] ?? "");
  const body = isText ? request.body.toString() : request.body;
  for (const event of [HTTP.toEvent({ headers: request.headers, body })].flat()) {
    const key = `${event.source} ${event.id}`;
    if (seen.has(key)) continue;
    console.log(event.type === "pgherald.gap" ? "gap" : "event", event.id, event.subject, event.data);
    seen.add(key);
  }
  response.sendStatus(204);
});
app.listen(Number(process.env.PORT), "127.0.0.1");
