"""What every reader in Python needs: the dump, and how a finding is printed."""

import base64
import importlib.metadata as metadata
import json


def said(client, n, **rest):
    print(json.dumps({"client": client, "n": n, **rest}), flush=True)


def version(package):
    return f"{package} {metadata.version(package)}"


def secret(path):
    """What signs every request; the dump's first line has it."""
    with open(path, encoding="utf-8") as lines:
        return json.loads(lines.readline())["secret"]


def wire(path):
    with open(path, encoding="utf-8") as lines:
        seen = [line for line in map(json.loads, lines) if "sink" in line]
    for n, line in enumerate(seen):
        body = line["body"]
        yield n, line, None if body is None else base64.b64decode(body)


def topics(path):
    return sorted({f"wire-{line['pipeline']}-{line['envelope']}" for _, line, _ in wire(path) if line["sink"] == "kafka"})


def streams(path):
    return sorted({f"WIRE_{line['pipeline']}_{line['envelope']}".upper() for _, line, _ in wire(path) if line["sink"] == "nats"})


def form(data):
    """The data as every reader prints it."""
    if data is None:
        return None
    if isinstance(data, (bytes, bytearray)):
        return {"base64": base64.b64encode(data).decode()}
    if isinstance(data, str):
        return {"text": data}
    return {"json": data}


def record(client, topic, offset, key, value, headers):
    """A record as a client gave it: bytes, and pairs of a name and bytes."""
    text = lambda it: None if it is None else base64.b64encode(it).decode()
    said(client, None, topic=topic, offset=offset, key=text(key), value=text(value),
         headers=[[name, value.decode()] for name, value in headers or []])
