"""What each client should see of the wire, and what it says differently."""

import base64
import json
import re
import urllib.parse

EVENT, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"


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
    if "verified" in said:
        return []
    if "passed" in said:
        return passed(said, line)
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


def passed(said, line):
    """What came through a proxy: the body, and each header of ours."""
    own = {"host", "connection", "content-length"}
    got = {name.lower(): value for name, value in said["passed"]}
    wrong = [f"{name}: {got.get(name)!r} for {value!r}" for name, value in line["headers"]
             if name not in own and got.get(name) != value]
    return wrong if said["value"] == line["body"] else [*wrong, "body"]


# What is read from the servers themselves must be what the test saw, field by field.

def stored(wire):
    """The messages of each topic and stream in their order: a topic has one partition."""
    places = {}
    for line in wire:
        name = {"kafka": f"wire-{line['pipeline']}-{line['envelope']}",
                "nats": f"wire_{line['pipeline']}_{line['envelope']}".upper()}.get(line["sink"])
        places.setdefault(name, []).append(line)
    return places


def raw(said, places):
    """The line that was read, and what is different in it; of an event only the line."""
    name = said.get("topic") or said["stream"]
    place = said["offset"] if "topic" in said else said["sequence"] - 1
    lines = places.get(name, [])
    if not 0 <= place < len(lines):
        return {}, [f"no such message in {name}: {place}"]
    line, wrong = lines[place], []
    if "value" not in said:
        return line, []
    fields = {"key": line["key"], "value": line["body"], "headers": sorted(line["headers"])}
    if "stream" in said:
        del fields["key"]
    for field, right in fields.items():
        got = sorted(said["headers"]) if field == "headers" else said[field]
        if got != right:
            wrong.append(f"{field}: {str(got)[:80]} for {str(right)[:80]}")
    return line, wrong


def known(faults, client, line, difference):
    """The fault of others that explains a difference."""
    for fault in faults:
        clients = fault["client"] if isinstance(fault["client"], list) else [fault["client"]]
        if client.startswith(tuple(clients)) and re.search(fault["difference"], difference) \
                and line.get("sink") in fault.get("sinks", [line.get("sink")]) \
                and line.get("envelope") in fault.get("envelopes", [line.get("envelope")]):
            return fault
    return None
