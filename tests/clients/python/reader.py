"""What SDKs, web frameworks and clients in Python make of the wire. Prints a JSON line a finding."""

import asyncio
import sys

import sdks
import servers
import web

dump, brokers, nats = sys.argv[1:4]
# First: the libraries take a signature for five minutes.
web.signatures(dump)
sdks.read(dump)
asyncio.run(web.fastapi(dump))
servers.kafka_python(dump, brokers)
servers.confluent_kafka(dump, brokers)
asyncio.run(servers.aiokafka(dump, brokers))
asyncio.run(servers.nats_py(dump, nats))
