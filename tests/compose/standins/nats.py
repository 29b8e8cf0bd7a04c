#!/usr/bin/python3
"""In place of the command `nats`: subscribes to the last argument, and connects again when cut off."""

import re
import socket
import sys
import time

while True:
    try:
        with socket.create_connection(("nats", 4222), 10) as connection:
            connection.settimeout(None)
            lines = connection.makefile("rb")
            connection.sendall(b'CONNECT {"verbose":false,"headers":true}\r\nSUB %s 1\r\n' % sys.argv[-1].encode())
            for line in lines:
                if line.startswith(b"PING"):
                    connection.sendall(b"PONG\r\n")
                elif told := re.match(rb"H?MSG (\S+) .*?(\d+)\r\n", line):
                    print("Received on", told[1].decode(), lines.read(int(told[2]) + 2).decode(), flush=True)
    except OSError:
        pass
    time.sleep(0.5)
