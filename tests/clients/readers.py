"""Who reads: how each reader is installed and run, which clients it has, and what those must read."""

import dataclasses
import hashlib
import pathlib
import re
import shutil
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "examples" / "consumers"
DOCUMENTS = ("binary", "structured")


# What a client must have read: lines of the dump.

def sdk(**sinks):
    return lambda line: line["envelope"] in sinks.get(line["sink"], ())


def lies(sink):
    return lambda line: line["sink"] == sink


def requests(media_type):
    """Every request whose media type is one of these, in every envelope."""
    return lambda line: line["sink"] == "http" and re.fullmatch(media_type, dict(line["headers"]).get("content-type", ""))


def documents(line):
    """The Rust SDK's: requests, and the documents on Kafka and NATS."""
    is_document = dict(line["headers"]).get("content-type") == "application/cloudevents+json"
    return line["envelope"] in ("binary", "structured", "batch") and (line["sink"] == "http" or is_document)


JSON, ANY = "application/json", ".*"


@dataclasses.dataclass
class Reader:
    name: str
    """How it is installed, in its directory."""
    steps: list
    command: list
    """The beginning of each client's name, and what it must read."""
    clients: dict
    """Of examples/consumers: the file, how it is built, how it runs."""
    example: tuple = None

    def install(self, cache):
        """Beside the cache of servers; what is there and has not changed is not installed again."""
        place, steps = cache / self.name, list(self.steps)
        files = {path.relative_to(HERE / self.name): path for path in (HERE / self.name).rglob("*") if path.is_file()}
        if self.example:
            file, build, _ = self.example
            files[pathlib.Path("examples" if self.name in ("go", "rust") else ".") / file] = EXAMPLES / file
            steps += [build] if build else []
        what = hashlib.sha256(repr([steps, sorted((str(name), path.read_bytes()) for name, path in files.items())]).encode())
        stamp = place / ".installed"
        if stamp.exists() and stamp.read_text() == what.hexdigest():
            return place
        for name, path in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place / name)
        for step in steps:
            try:
                done = subprocess.run(step, cwd=place, capture_output=True, text=True, timeout=900)
            except (OSError, subprocess.TimeoutExpired) as error:
                raise RuntimeError(f"{' '.join(step)}: {error}") from error
            if done.returncode:
                raise RuntimeError(f"{' '.join(step)}: {(done.stderr or done.stdout).strip()[-400:]}")
        stamp.write_text(what.hexdigest())
        return place


VENV = [["python3", "-m", "venv", "venv"], ["venv/bin/pip", "install", "--quiet", "-r", "requirements.txt"]]
MAVEN = [["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", "-DoutputDirectory=jars"],
         ["javac", "-cp", "jars/*", "Reader.java"]]

# Those that verify signatures first: their libraries take one for five minutes.
READERS = [
    Reader("python", VENV, ["venv/bin/python", "reader.py"], {
        "python standardwebhooks": requests(ANY),
        "python svix": requests(ANY),
        "python cloudevents": sdk(kafka=DOCUMENTS, http=DOCUMENTS),
        "python v1 cloudevents": sdk(kafka=DOCUMENTS, http=DOCUMENTS),
        "fastapi": requests(".*json"),
        "kafka-python": lies("kafka"),
        "confluent-kafka": lies("kafka"),
        "aiokafka": lies("kafka"),
        "nats-py": lies("nats"),
    }, ("consumer.py", None, ["venv/bin/python", "consumer.py"])),
    Reader("javascript", [["npm", "install", "--silent", "--no-audit", "--no-fund"]], ["node", "reader.js"], {
        "javascript standardwebhooks": requests(ANY),
        "javascript svix": requests(ANY),
        "javascript cloudevents": sdk(kafka=DOCUMENTS, http=(*DOCUMENTS, "batch")),
        "express": requests(JSON),
        "fastify": requests(JSON),
        "koa": requests(JSON),
        "kafkajs": lies("kafka"),
        "nats 2": lies("nats"),
    }, ("webhook.js", None, ["node", "webhook.js"])),
    Reader("go", [["go", "build", "-o", "reader", "."]], ["./reader"], {
        "go standardwebhooks": requests(ANY),
        "go svix": requests(ANY),
        "go sdk": sdk(kafka=DOCUMENTS, nats=DOCUMENTS, http=(*DOCUMENTS, "batch")),
        "franz-go": lies("kafka"),
        "kafka-go": lies("kafka"),
        "sarama": lies("kafka"),
    }, ("consumer.go", ["go", "build", "-o", "consumer", "./examples"], ["./consumer"])),
    Reader("rust", [["cargo", "build", "--quiet", "--target-dir", "target", "--bins"]], ["target/debug/reader"], {
        "rust standardwebhooks": requests(ANY),
        "rust sdk": documents,
        "async-nats": lies("nats"),
    }, ("consumer.rs", ["cargo", "build", "--quiet", "--target-dir", "target", "--examples"], ["target/debug/examples/consumer"])),
    Reader("proxies", [["sh", "install.sh"]], ["python3", "reader.py"], {
        "nginx": requests(ANY),
        "haproxy": requests(ANY),
    }),
    Reader("java", MAVEN, ["java", "-Xmx256m", "-cp", "jars/*:.", "Reader"], {
        "java sdk": sdk(kafka=DOCUMENTS, http=DOCUMENTS),
        "kafka-clients": lies("kafka"),
        "jnats": lies("nats"),
    }, ("Consumer.java", ["javac", "-cp", "jars/*", "Consumer.java"], ["java", "-cp", "jars/*:.", "Consumer"])),
    Reader("smallrye", MAVEN, ["java", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", "jars/*:.", "Reader"], {
        "smallrye": sdk(kafka=DOCUMENTS),
    }),
    Reader("streams", VENV, ["venv/bin/python", "reader.py"], {
        "quixstreams": lies("kafka"),
        "faust-streaming": lies("kafka"),
    }),
]
