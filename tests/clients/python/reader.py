"""What the Python SDK, web frameworks and clients make of the wire. Prints a JSON line an event."""

import asyncio
import base64
import importlib.metadata as metadata
import json
import sys


def said(client, n, **rest):
    print(json.dumps({"client": client, "n": n, **rest}), flush=True)


def version(package):
    return f"{package} {metadata.version(package)}"


def wire(path):
    with open(path, encoding="utf-8") as lines:
        seen = [line for line in map(json.loads, lines) if "sink" in line]
    for n, line in enumerate(seen):
        body = line["body"]
        yield n, line, None if body is None else base64.b64decode(body)


def form(data):
    """The data as every reader prints it."""
    if data is None:
        return None
    if isinstance(data, (bytes, bytearray)):
        return {"base64": base64.b64encode(data).decode()}
    if isinstance(data, str):
        return {"text": data}
    return {"json": data}


def sdk(path):
    from cloudevents.core.bindings import http, kafka

    client = f"python {version('cloudevents')}"
    for n, line, body in wire(path):
        if line["envelope"] == "none" or line["envelope"] == "batch" or line["sink"] == "nats":
            continue
        try:
            if line["sink"] == "kafka":
                headers = {name: value.encode() for name, value in line["headers"]}
                key = line["key"] and base64.b64decode(line["key"])
                event = kafka.from_kafka_event(kafka.KafkaMessage(headers, key, body))
            else:
                message = http.HTTPMessage(dict(line["headers"]), body)
                event = http.from_http_event(message)
            attributes = {name: str(value) for name, value in event.get_attributes().items()}
            attributes.pop("time", None)
            said(client, n, attributes=attributes, data=form(event.get_data()))
        except Exception as error:
            said(client, n, error=f"{type(error).__name__}: {error}"[:200])


async def fastapi(path):
    """A handler with a typed body, as FastAPI's own pages have it."""
    import fastapi
    import httpx
    from typing import Any

    client = version("fastapi")
    app = fastapi.FastAPI()
    taken = []

    @app.post("/json")
    async def take(body: Any = fastapi.Body()):
        taken.append(form(body) if not isinstance(body, str) else {"text": body})
        return {}

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
        for n, line, body in wire(path):
            is_json = dict(line["headers"]).get("content-type", "").endswith("json")
            if line["sink"] != "http" or not is_json:
                continue
            taken.clear()
            headers = {k: v for k, v in line["headers"] if k not in ("host", "content-length")}
            answer = await http.post("/json", content=body, headers=headers)
            if answer.status_code == 200:
                said(client, n, body=taken[0])
            else:
                said(client, n, error=f"answers {answer.status_code}")



def kafka_python(path, brokers):
    from kafka import KafkaConsumer, TopicPartition

    client = version("kafka-python")
    topics = {f"wire-{line['pipeline']}-{line['envelope']}" for _, line, _ in wire(path) if line["sink"] == "kafka"}
    consumer = KafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest",
                             enable_auto_commit=False, consumer_timeout_ms=8000)
    parts = [TopicPartition(topic, 0) for topic in sorted(topics)]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends = consumer.end_offsets(parts)
    missing = sum(ends.values())
    while missing:
        record = next(consumer)
        missing -= 1
        text = lambda it: None if it is None else base64.b64encode(it).decode()
        said(client, None, topic=record.topic, offset=record.offset, key=text(record.key),
             value=text(record.value), headers=[[k, v.decode()] for k, v in record.headers])
    consumer.close()


async def nats_py(path, url):
    import nats

    client = version("nats-py")
    connection = await nats.connect(url)
    context = connection.jetstream()
    streams = {f"WIRE_{line['pipeline']}_{line['envelope']}".upper() for _, line, _ in wire(path) if line["sink"] == "nats"}
    for stream in sorted(streams):
        state = (await context.stream_info(stream)).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await context.get_msg(stream, seq=sequence)
            said(client, None, stream=stream, sequence=sequence,
                 value=base64.b64encode(message.data or b"").decode(),
                 headers=[[k, v] for k, v in (message.headers or {}).items()])
    await connection.close()


if __name__ == "__main__":
    dump, brokers, servers = sys.argv[1:4]
    sdk(dump)
    asyncio.run(fastapi(dump))
    if brokers != "-":
        kafka_python(dump, brokers)
        asyncio.run(nats_py(dump, servers))
