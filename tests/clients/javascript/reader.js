// What the JavaScript SDK, web frameworks and clients make of the wire. Prints a JSON line an event.
import { readFileSync } from "node:fs";
import { bodyParser } from "@koa/bodyparser";
import { HTTP, Kafka as KafkaBinding } from "cloudevents";
import express from "express";
import Fastify from "fastify";
import { Kafka, logLevel } from "kafkajs";
import Koa from "koa";
import { connect } from "nats";
import * as standardwebhooks from "standardwebhooks";
import * as svix from "svix";

const [dump, brokers, servers] = process.argv.slice(2);
const version = (name) => {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return `${name} ${JSON.parse(readFileSync(file)).version}`;
};
const said = (client, n, rest) => console.log(JSON.stringify({ client, n, ...rest }));
const [{ secret }, ...lines] = readFileSync(dump, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line));
const wire = lines
  .map((line) => ({ ...line, body: line.body === null ? null : Buffer.from(line.body, "base64") }));

function form(data) {
  if (data === undefined || data === null) return null;
  if (data instanceof Uint8Array) return { base64: Buffer.from(data).toString("base64") };
  if (typeof data === "string") return { text: data };
  return { json: data };
}

function event(client, n, it) {
  const { data, data_base64, time, ...attributes } = it.toJSON();
  said(client, n, { attributes, data: data_base64 ? { base64: data_base64 } : form(data) });
}

// One verifies and then parses, the other only verifies, as their pages have it.
function signatures() {
  for (const [name, { Webhook }] of Object.entries({ standardwebhooks, svix })) {
    const client = `javascript ${version(name)}`;
    const hook = new Webhook(secret);
    wire.forEach(({ sink, headers, body }, n) => {
      if (sink !== "http") return;
      try {
        const parsed = hook.verify(body, Object.fromEntries(headers));
        said(client, n, parsed === undefined ? { verified: true } : { body: { json: parsed } });
      } catch (error) {
        said(client, n, { error: `${error.name}: ${error.message}`.slice(0, 200) });
      }
    });
  }
}

function sdk() {
  const client = `javascript ${version("cloudevents")}`;
  wire.forEach(({ sink, envelope, headers, key, body }, n) => {
    if (sink === "nats" || envelope === "none") return;
    headers = Object.fromEntries(headers);
    const type = headers["content-type"] ?? "";
    const isText = /^text\/|json|xml/.test(type);
    const value = body && isText ? body.toString() : body;
    try {
      const found = sink === "kafka"
        ? KafkaBinding.toEvent({ headers, key: key && Buffer.from(key, "base64").toString(), value,
          body: value, timestamp: "1793424001005" })
        : HTTP.toEvent({ headers, body: value });
      [found].flat().forEach((it) => event(client, n, it));
    } catch (error) {
      said(client, n, { error: `${error.name}: ${error.message}`.slice(0, 200) });
    }
  });
}

// Each framework with its own JSON parser, and nothing else.
async function framework(client, origin, taken) {
  for (const [n, { sink, headers, body }] of wire.entries()) {
    const kept = headers.filter(([name]) => !["host", "content-length", "connection"].includes(name));
    const type = Object.fromEntries(headers)["content-type"] ?? "";
    if (sink !== "http" || type !== "application/json") continue;
    taken.length = 0;
    const answer = await fetch(origin, { method: "POST", headers: kept, body });
    if (answer.status === 200) said(client, n, { body: form(taken[0]) });
    else said(client, n, { error: `answers ${answer.status}` });
  }
}

async function frameworks() {
  const taken = [];
  const app = express();
  app.use(express.json());
  app.post("/", (request, response) => { taken.push(request.body); response.sendStatus(200); });
  const server = await new Promise((done) => { const it = app.listen(0, "127.0.0.1", () => done(it)); });
  await framework(version("express"), `http://127.0.0.1:${server.address().port}/`, taken);
  server.closeAllConnections();
  server.close();
  const fastify = Fastify();
  fastify.post("/", async (request) => { taken.push(request.body); return {}; });
  const origin = await fastify.listen({ port: 0, host: "127.0.0.1" });
  await framework(version("fastify"), `${origin}/`, taken);
  await fastify.close();
  await koa(taken);
}

async function koa(taken) {
  const app = new Koa();
  app.use(bodyParser());
  app.use((context) => { taken.push(context.request.body); context.body = {}; });
  const server = await new Promise((done) => { const it = app.listen(0, "127.0.0.1", () => done(it)); });
  app.silent = true;
  await framework(version("koa"), `http://127.0.0.1:${server.address().port}/`, taken);
  server.closeAllConnections();
  server.close();
}

async function kafkajs() {
  const client = version("kafkajs");
  const kafka = new Kafka({ brokers: brokers.split(","), logLevel: logLevel.NOTHING });
  const admin = kafka.admin();
  await admin.connect();
  const topics = [...new Set(wire.filter(({ sink }) => sink === "kafka")
    .map(({ pipeline, envelope }) => `wire-${pipeline}-${envelope}`))];
  let left = 0;
  for (const topic of topics) left += Number((await admin.fetchTopicOffsets(topic))[0].high);
  await admin.disconnect();
  const consumer = kafka.consumer({ groupId: `prove-${process.pid}` });
  await consumer.connect();
  await consumer.subscribe({ topics, fromBeginning: true });
  const base64 = (it) => it === null ? null : it.toString("base64");
  await new Promise((done, failed) => {
    setTimeout(() => failed(new Error("kafkajs: not everything came")), 60000).unref();
    consumer.run({ eachMessage: async ({ topic, message }) => {
      said(client, null, { topic, offset: Number(message.offset), key: base64(message.key),
        value: base64(message.value),
        headers: Object.entries(message.headers).map(([k, v]) => [k, v.toString()]) });
      if (--left === 0) done();
    } });
  });
  await consumer.disconnect();
}

async function natsjs() {
  const client = version("nats");
  const connection = await connect({ servers });
  const manager = await connection.jetstreamManager();
  for (const stream of [...new Set(wire.filter(({ sink }) => sink === "nats")
    .map(({ pipeline, envelope }) => `WIRE_${pipeline}_${envelope}`.toUpperCase()))]) {
    let left = (await manager.streams.info(stream)).state.messages;
    const consumer = await connection.jetstream().consumers.get(stream);
    for await (const message of await consumer.consume()) {
      said(client, null, { stream, sequence: message.seq, value: Buffer.from(message.data).toString("base64"),
        headers: message.headers.keys().map((name) => [name, message.headers.get(name)]) });
      if (--left === 0) break;
    }
  }
  await connection.close();
}

signatures(); // first: the libraries take a signature for five minutes
sdk();
await frameworks();
await kafkajs();
await natsjs();
