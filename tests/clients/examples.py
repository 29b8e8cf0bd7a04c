"""Runs examples/consumers."""

import base64
import http.client
import os
import socket
import subprocess
import threading
import time


def run(reader, place, wire, brokers, nats):
    """Runs a reader's example until it has printed every message of the set; says what is wrong."""
    file, _, command = reader.example
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"KAFKA": brokers, "TOPIC": "wire-p-binary", "NATS": nats, "STREAM": "WIRE_P_BINARY", "PORT": str(port)}
    requests = [line for line in wire if (line["pipeline"], line["sink"], line["envelope"]) == ("p", "http", "structured")]
    running = subprocess.Popen(command, cwd=place, env=os.environ | told, stdout=subprocess.PIPE, text=True, errors="replace")
    stop = threading.Timer(90, running.kill)
    stop.start()
    events = 0
    try:
        if file == "webhook.js":
            post(port, requests)
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
        for _ in range(100):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                connection.request("POST", "/", base64.b64decode(line["body"]), headers)
                connection.getresponse().read()
                break
            except ConnectionRefusedError:
                time.sleep(0.2)
