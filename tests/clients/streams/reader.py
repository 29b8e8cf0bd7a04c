"""What Faust and Quix Streams make of Kafka's records. Prints a JSON line a record."""

import base64
import importlib.metadata as metadata
import json
import os
import subprocess
import sys


def said(client, topic, offset, key, value, headers):
    text = lambda it: None if it is None else base64.b64encode(it).decode()
    print(json.dumps({"client": client, "n": None, "topic": topic, "offset": offset, "key": text(key), "value": text(value),
                      "headers": [[name, content.decode()] for name, content in headers]}), flush=True)


def topics(path):
    with open(path, encoding="utf-8") as lines:
        wire = [line for line in map(json.loads, lines) if line.get("sink") == "kafka"]
    names = [f"wire-{line['pipeline']}-{line['envelope']}" for line in wire]
    return {name: names.count(name) for name in sorted(set(names))}


def quix(counts, brokers):
    import quixstreams

    client = f"quixstreams {metadata.version('quixstreams')}"
    app = quixstreams.Application(broker_address=brokers, consumer_group="prove-quix", auto_offset_reset="earliest", loglevel="ERROR")
    for name in counts:
        topic = app.topic(name, key_deserializer="bytes", value_deserializer="bytes")

        def take(value, key, _, headers):
            place = quixstreams.message_context()
            said(client, place.topic, place.offset, key, value, headers or [])

        app.dataframe(topic).update(take, metadata=True)
    app.run(count=sum(counts.values()), timeout=120)


def faust(counts, brokers):
    import faust

    client = f"faust-streaming {metadata.version('faust-streaming')}"
    app = faust.App("prove-faust", broker=f"kafka://{brokers}", web_enabled=False, store="memory://", topic_partitions=1,
                    consumer_auto_offset_reset="earliest", topic_allow_declare=False, topic_disable_leader=True)
    left = sum(counts.values())
    topic = app.topic(*counts, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(topic)
    async def take(stream):
        nonlocal left
        async for event in stream.events():
            it = event.message
            headers = it.headers.items() if isinstance(it.headers, dict) else it.headers or []
            said(client, it.topic, it.offset, it.key, it.value, headers)
            left -= 1
            if not left:
                os._exit(0)  # a worker has no other way to end itself at once

    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


if len(sys.argv) == 5:
    {"quix": quix, "faust": faust}[sys.argv[4]](topics(sys.argv[1]), sys.argv[2])
else:
    for which in ["quix", "faust"]:
        subprocess.run([sys.executable, __file__, *sys.argv[1:4], which], check=True, timeout=180)
