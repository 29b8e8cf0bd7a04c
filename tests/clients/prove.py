#!/usr/bin/env python3
"""Has other people's clients read what pgherald put on the wire, and compares field by field.

    prove.py install                  fetches and builds every reader, before there is a wire
    prove.py DUMP BROKERS NATS        has all of them read

DUMP is what the test `clients` saw on the wire. Each client is installed from its registry, at the
version that its own file here pins; one that cannot be installed is named. Faults of others are
listed in known_faults.json with the reason; any other difference fails, and so does a client that
has not read everything.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys
import time

import examples
from compare import differences, expected, known, raw, stored
from readers import HERE, READERS

CACHE = pathlib.Path(os.environ.get("PGHERALD_CACHE_DIR") or HERE.parent.parent / ".cache") / "clients"
FAULTS = json.loads((HERE / "known_faults.json").read_text())


class Findings:
    """What all clients said, compared."""

    def __init__(self, wire):
        self.wire, self.places = wire, stored(wire)
        self.counts, self.faults, self.failures = {}, collections.Counter(), []
        # For each client how often it said something of a line, and those of which it said an error.
        self.read, self.refused = collections.defaultdict(collections.Counter), set()
        # Clients that say one thing of a request, however many events it holds.
        self.whole = set()

    def take(self, said):
        client, n = said["client"], said["n"]
        if n is None:
            line, wrong = raw(said, self.places)
            if line and "value" not in said:
                wrong = differences(said, line)
        else:
            line = self.wire[n]
            wrong = differences(said, line)
        self.read[client][id(line)] += 1
        if "attributes" not in said and "error" not in said:
            self.whole.add(client)
        if "error" in said:
            self.refused.add((client, id(line)))
        strange = []
        for difference in wrong:
            fault = known(FAULTS, client, line, difference)
            if fault:
                self.faults[client, fault["reason"]] += 1
            else:
                strange.append(difference)
        kind = (client, line.get("sink", "?"), line.get("envelope", "?"))
        if strange:
            self.failures.append(f"{' '.join(kind)}: {'; '.join(strange)}")
        right, faulty = self.counts.get(kind, (0, 0))
        self.counts[kind] = (right + (not wrong), faulty + (bool(wrong) and not strange))

    def complete(self, reader):
        """Every client of the reader has said something of all that it must read."""
        for name, must in reader.clients.items():
            clients = [client for client in self.read if client.startswith(name)]
            if len(clients) != 1:
                self.failures.append(f"{name}: no finding" if not clients else f"{name}: is {clients}")
                continue
            client, missing = clients[0], 0
            for line in filter(must, self.wire):
                is_one = client in self.whole or (client, id(line)) in self.refused
                wanted = 1 if is_one else len(expected(line))
                missing += max(0, wanted - self.read[client][id(line)])
            if missing:
                self.failures.append(f"{client}: {missing} messages were not read")


def install():
    """Readers with their places, and what could not be installed."""
    places, absent = [], []
    for reader in READERS:
        began = time.monotonic()
        try:
            places.append((reader, reader.install(CACHE)))
        except RuntimeError as error:
            absent.append(f"{reader.name} ({', '.join(reader.clients)}): {error}")
        print(f"install {reader.name}: {time.monotonic() - began:.0f} s", flush=True)
    return places, absent


def read(reader, place, findings, dump, brokers, nats):
    began = time.monotonic()
    command = [*reader.command, dump, brokers, nats]
    try:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        findings.failures.append(f"{reader.name}: the reader did not end")
        return
    if done.returncode:
        findings.failures.append(f"{reader.name}: the reader ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            findings.take(json.loads(line))
    findings.complete(reader)
    print(f"{reader.name}: {time.monotonic() - began:.0f} s", flush=True)


def report(findings, absent):
    print(f"\n{'client':34} {'sink':6} {'envelope':12} {'right':>6} {'known fault':>12}")
    for kind, (right, faulty) in sorted(findings.counts.items()):
        print(f"{kind[0]:34} {kind[1]:6} {kind[2]:12} {right:6} {faulty:12}")
    print("\nknown faults of others:")
    for (client, reason), count in sorted(findings.faults.items()):
        print(f"  {client}: {reason} ({count})")
    for line in absent:
        print(f"not installed: {line}")
    for line in findings.failures:
        print(f"DIFFERENT: {line}")
    files = (file for file in CACHE.rglob("*") if file.is_file() and not file.is_symlink())
    size = sum(file.stat().st_size for file in files)
    counts = findings.counts.values()
    print(f"\n{len(findings.read)} clients: {sum(right for right, _ in counts)} read right, "
          f"{sum(faulty for _, faulty in counts)} known faults, {len(findings.failures)} different, "
          f"{len(absent)} readers not installed; {size >> 20} MiB in the cache")


def main():
    only = os.environ.get("PGHERALD_WIRE_READERS")
    if only:
        READERS[:] = [reader for reader in READERS if reader.name in only.split(",")]
    places, absent = install()
    if sys.argv[1:] == ["install"]:
        return
    dump, brokers, nats = sys.argv[1:4]
    with open(dump, encoding="utf-8") as lines:
        findings = Findings([line for line in map(json.loads, lines) if "sink" in line])
    # Signatures hold for five minutes: what takes long to read comes last.
    for reader, place in places:
        read(reader, place, findings, dump, brokers, nats)
    for reader, place in places:
        wrong = reader.example and examples.run(reader, place, findings.wire, brokers, nats)
        if wrong:
            findings.failures.append(f"examples/consumers: {wrong}")
    report(findings, absent)
    sys.exit(bool(findings.failures))


if __name__ == "__main__":
    main()
