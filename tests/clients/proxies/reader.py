"""What passes through nginx and HAProxy as they come. Prints a JSON line a request."""

import base64
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path("root").resolve()
LIBRARIES = {"LD_LIBRARY_PATH": str(ROOT / "usr/lib" / f"{os.uname().machine}-linux-gnu")}

NGINX = """
daemon off; master_process off; pid {here}/nginx.pid; error_log stderr warn;
events {{}}
http {{
    access_log off; client_max_body_size 2m;
    client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
    server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; }} }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen hook
    bind 127.0.0.1:{port}
    server behind 127.0.0.1:{behind}
"""


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


class Behind(http.server.BaseHTTPRequestHandler):
    """Keeps the last request."""
    last = None

    def do_POST(self):
        Behind.last = (self.headers.items(), self.rfile.read(int(self.headers.get("content-length", 0))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def proxy(program, config, arguments, behind):
    """Runs one, and gives its name with its version, and its port."""
    port, file = free_port(), pathlib.Path(f"{program}.conf")
    file.write_text(config.format(port=port, behind=behind, here=pathlib.Path.cwd()))
    path, environment = str(ROOT / "usr/sbin" / program), os.environ | LIBRARIES
    told = subprocess.run([path, "-v"], env=environment, capture_output=True, text=True)
    version = re.search(r"\d+\.\d+\.\d+", told.stdout + told.stderr)[0]
    running = subprocess.Popen([path, *arguments, str(file.resolve())], env=environment)
    try:
        for _ in range(100):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield f"{program} {version}", port
    finally:
        running.terminate()
        running.wait()


def main():
    with open(sys.argv[1], encoding="utf-8") as lines:
        wire = [line for line in map(json.loads, lines) if "sink" in line]
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Behind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for program, config, arguments in [("nginx", NGINX, ["-p", ".", "-c"]), ("haproxy", HAPROXY, ["-db", "-f"])]:
        with proxy(program, config, arguments, server.server_address[1]) as (client, port):
            for n, line in enumerate(wire):
                if line["sink"] == "http":
                    print(json.dumps({"client": client, "n": n, **send(line, port)}), flush=True)


def send(line, port):
    Behind.last = None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
    for name, value in line["headers"]:
        connection.putheader(name, value)
    connection.endheaders(base64.b64decode(line["body"]))
    answer = connection.getresponse()
    answer.read()
    if answer.status != 204 or Behind.last is None:
        return {"error": f"answers {answer.status}"}
    headers, body = Behind.last
    return {"passed": [list(pair) for pair in headers], "value": base64.b64encode(body).decode()}


main()
