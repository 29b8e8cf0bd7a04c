#!/usr/bin/env python3
"""Has other people's clients read what pgherald put on the wire, and compares field by field.

    prove.py DUMP BROKERS NATS

DUMP is what the test `clients` saw on the wire. Each client is installed from its registry, at the
version that its own file here pins; one that cannot be installed is named. Faults of others are
listed in known_faults.json with the reason; any other difference fails.
"""

import base64
import http.client
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse

HERE = pathlib.Path(__file__).resolve().parent
EVENT, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


# What each client should see: the specification's letter, as in tests/src/clients/reading.rs.

def expected(line):
    headers = dict(line["headers"])
    kind = headers.get("content-type")
    body = None if line["body"] is None else base64.b64decode(line["body"])
    if kind == BATCH:
        return [structured(event) for event in json.loads(body)]
    if kind == EVENT:
        return [structured(json.loads(body))]
    prefix = "ce_" if line["sink"] == "kafka" else "ce-"
    decode = (lambda it: it) if line["sink"] == "kafka" else urllib.parse.unquote
    attributes = {k[3:]: decode(v) for k, v in headers.items() if k.startswith(prefix)}
    if line["sink"] != "nats" and kind:
        attributes["datacontenttype"] = kind
    return [(attributes, body if "datacontenttype" in attributes else None)]


def structured(event):
    attributes = {k: v for k, v in event.items() if k not in ("data", "data_base64")}
    if "data_base64" in event:
        return attributes, base64.b64decode(event["data_base64"])
    if "data" not in event:
        return attributes, None
    is_json = attributes.get("datacontenttype", "").split(";")[0].endswith("json")
    return attributes, event["data"] if is_json else event["data"].encode()


# Data as bytes, or as the value of its JSON: numbers as the client's language has them.

def plain(data):
    if data is None or isinstance(data, bytes):
        return data
    name, value = next(iter(data.items()))
    return {"json": value, "text": value.encode() if name == "text" else None,
            "base64": base64.b64decode(value) if name == "base64" else None}[name]


def as_json(data):
    if not isinstance(data, bytes):
        return data
    try:
        return json.loads(data)
    except ValueError:
        return data


def same(one, other):
    if one == other:
        return True
    one, other = as_json(one), as_json(other)
    if isinstance(one, bytes) and isinstance(other, str):
        return one == other.encode()  # a JSON string, as a text
    floats = lambda it: json.loads(json.dumps(it), parse_int=float)
    comparable = not isinstance(one, bytes) and not isinstance(other, bytes)
    return comparable and floats(one) == floats(other)


def differences(said, line):
    """What a client says differently, in words."""
    if "error" in said:
        return [f"error: {said['error']}"]
    if "body" in said:
        body = base64.b64decode(line["body"])
        return [] if same(plain(said["body"]), body) else [f"body: {said['body']}"]
    by_id = {attributes["id"]: (attributes, data) for attributes, data in expected(line)}
    found = by_id.get(said["attributes"].get("id"))
    if not found:
        return [f"id: {said['attributes'].get('id')}"]
    attributes, data = found
    names = (set(attributes) | set(said["attributes"])) - {"time"}
    wrong = [f"{name}: {said['attributes'].get(name)!r} for {attributes.get(name)!r}"
             for name in sorted(names) if said["attributes"].get(name) != attributes.get(name)]
    got = plain(said["data"])
    if not same(got, data) and not (not got and not data):
        wrong.append(f"data: {str(got)[:60]!r} for {str(data)[:60]!r}")
    return wrong


# What is read from the servers themselves must be byte for byte what the test saw.

def raw(said, wire):
    name = said.get("topic") or said["stream"]
    for line in wire:
        place = {"kafka": f"wire-{line['pipeline']}-{line['envelope']}",
                 "nats": f"wire_{line['pipeline']}_{line['envelope']}".upper()}.get(line["sink"])
        if place == name and line["body"] == said["value"] \
                and sorted(line["headers"]) == sorted(said["headers"]) \
                and ("topic" not in said or line["key"] == said["key"]):
            return []
    return [f"no such message in {name}"]


READERS = [
    ("python", [["python3", "-m", "venv", "venv"], ["venv/bin/pip", "install", "--quiet", "-r", "requirements.txt"]],
     ["venv/bin/python", "reader.py"]),
    ("javascript", [["npm", "install", "--silent", "--no-audit", "--no-fund"]], ["node", "reader.js"]),
    ("go", [["go", "build", "-o", "reader", "reader.go"]], ["./reader"]),
    ("java", [["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=jars"],
              ["javac", "-cp", "jars/*", "Reader.java"]],
     ["java", "-Xmx256m", "-cp", "jars/*:.", "Reader"]),
]


# examples/consumers, each as its first lines say: how it is built, how it runs, what it reads.
EXAMPLES = {
    "python": ("consumer.py", [], ["venv/bin/python", "consumer.py"]),
    "javascript": ("webhook.js", [], ["node", "webhook.js"]),
    "go": ("consumer.go", ["go", "build", "-o", "consumer", "consumer.go"], ["./consumer"]),
    "java": ("Consumer.java", ["javac", "-cp", "jars/*", "Consumer.java"], ["java", "-cp", "jars/*:.", "Consumer"]),
}


def example(name, place, wire, brokers, nats):
    """Runs one until it has printed every message of the set; says what is wrong."""
    file, build, command = EXAMPLES[name]
    (place / file).write_bytes((HERE.parent.parent / "examples" / "consumers" / file).read_bytes())
    if build and subprocess.run(build, cwd=place).returncode:
        return f"{file} does not build"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"KAFKA": brokers, "TOPIC": "wire-p-binary", "NATS": nats, "STREAM": "WIRE_P_BINARY", "PORT": str(port)}
    running = subprocess.Popen(command, cwd=place, env=os.environ | told, stdout=subprocess.PIPE, text=True, errors="replace")
    stop = threading.Timer(90, running.kill)
    stop.start()
    requests = [line for line in wire if (line["pipeline"], line["sink"], line["envelope"]) == ("p", "http", "structured")]
    try:
        if name == "javascript":
            post(port, requests)
        events = 0
        for line in running.stdout:
            events += line.startswith("event ")
            if events == len(requests):
                break
    finally:
        stop.cancel()
        running.kill()
        running.wait()
    return None if events == len(requests) else f"{file} read {events} of {len(requests)} messages"


def post(port, requests):
    for line in requests:
        headers = {k: v for k, v in line["headers"] if k not in ("host", "content-length", "connection")}
        for attempt in range(100):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("POST", "/", base64.b64decode(line["body"]), headers)
                connection.getresponse().read()
                break
            except ConnectionRefusedError:
                time.sleep(0.2)


def install(name, steps, cache):
    """Beside the cache of servers, so that a second run installs nothing."""
    place = cache / name
    place.mkdir(parents=True, exist_ok=True)
    for file in (HERE / name).iterdir():
        if file.is_file():
            (place / file.name).write_bytes(file.read_bytes())
    for step in steps:
        done = subprocess.run(step, cwd=place, capture_output=True, text=True, timeout=900)
        if done.returncode:
            raise RuntimeError(f"{' '.join(step)}: {(done.stderr or done.stdout).strip()[-300:]}")
    return place


def known(faults, said, line, difference):
    for fault in faults:
        if said["client"].startswith(fault["client"]) and re.search(fault["difference"], difference) \
                and line.get("sink") in fault.get("sinks", [line.get("sink")]) \
                and line.get("envelope") in fault.get("envelopes", [line.get("envelope")]):
            return fault
    return None


def main():
    dump, brokers, nats = sys.argv[1:4]
    root = HERE.parent.parent
    cache = pathlib.Path(os.environ.get("PGHERALD_CACHE_DIR") or root / ".cache") / "clients"
    faults = json.loads((HERE / "known_faults.json").read_text())
    wire = [line for line in map(json.loads, open(dump, encoding="utf-8")) if "sink" in line]
    counts, seen, failures, absent = {}, {}, [], []
    for name, steps, command in READERS:
        began = time.monotonic()
        try:
            place = install(name, steps, cache)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            absent.append(f"{name}: {error}")
            continue
        read = subprocess.run([*command, dump, brokers, nats], cwd=place, capture_output=True, text=True, timeout=600)
        if read.returncode:
            failures.append(f"{name}: the reader ended with {read.returncode}: {read.stderr.strip()[-600:]}")
        for said in map(json.loads, filter(None, read.stdout.splitlines())):
            line = {} if said["n"] is None else wire[said["n"]]
            kind = (said["client"], line.get("sink") or ("kafka" if "topic" in said else "nats"), line.get("envelope", "as it lies"))
            wrong = raw(said, wire) if said["n"] is None else differences(said, line)
            right, faulty = counts.get(kind, (0, 0))
            strange = []
            for difference in wrong:
                fault = known(faults, said, line, difference)
                if fault:
                    seen.setdefault((said["client"], fault["reason"]), 0)
                    seen[said["client"], fault["reason"]] += 1
                else:
                    strange.append(difference)
            if strange:
                failures.append(f"{' '.join(kind)}: {'; '.join(strange)}")
            counts[kind] = (right + (not wrong), faulty + bool(wrong))
        wrong = brokers != "-" and example(name, place, wire, brokers, nats)
        if wrong:
            failures.append(f"examples/consumers: {wrong}")
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    print(f"\n{'client':34} {'sink':6} {'envelope':12} {'right':>6} {'known fault':>12}")
    for kind, (right, faulty) in sorted(counts.items()):
        print(f"{kind[0]:34} {kind[1]:6} {kind[2]:12} {right:6} {faulty:12}")
    print("\nknown faults of others:")
    for (client, reason), count in sorted(seen.items()):
        print(f"  {client}: {reason} ({count})")
    for line in absent:
        print(f"not installed: {line}")
    for line in failures:
        print(f"DIFFERENT: {line}")
    print(f"\n{sum(right for right, _ in counts.values())} read right, {sum(f for _, f in counts.values())} known faults, "
          f"{len(failures)} different, {len(absent)} not installed")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
