"""The SDK, with both of its interfaces."""

import base64

from common import form, said, version, wire


def read(path):
    documents = lambda line: line["envelope"] not in ("none", "batch") and line["sink"] != "nats"
    for name, one in [("python", event), ("python v1", event_v1)]:
        client = f"{name} {version('cloudevents')}"
        for n, line, body in filter(lambda it: documents(it[1]), wire(path)):
            try:
                found = one(line, body)
                attributes = {name: str(value) for name, value in found.get_attributes().items()}
                said(client, n, attributes=attributes, data=form(found.get_data()))
            except Exception as error:
                said(client, n, error=f"{type(error).__name__}: {error}"[:200])


def event(line, body):
    from cloudevents.core.bindings import http, kafka

    if line["sink"] == "http":
        return http.from_http_event(http.HTTPMessage(dict(line["headers"]), body))
    headers = {name: value.encode() for name, value in line["headers"]}
    key = line["key"] and base64.b64decode(line["key"])
    return kafka.from_kafka_event(kafka.KafkaMessage(headers, key, body))


def event_v1(line, body):
    """As its pages have it: JSON is parsed unless another unmarshaller is named."""
    from cloudevents.v1 import http, kafka

    headers = dict(line["headers"])
    is_json = headers.get("content-type", "").split(";")[0].endswith("json")
    untouched = {} if is_json else {"data_unmarshaller": lambda data: data}
    if line["sink"] == "http":
        return http.from_http(headers, body, **untouched)
    is_document = headers.get("content-type") == "application/cloudevents+json"
    take = kafka.from_structured if is_document else kafka.from_binary
    key = line["key"] and base64.b64decode(line["key"]).decode()
    message = kafka.KafkaMessage({name: value.encode() for name, value in headers.items()}, key, body)
    return take(message, **untouched)
