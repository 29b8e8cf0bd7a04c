"""Reads events from a topic: KAFKA=localhost:9092 TOPIC=app.orders python consumer.py"""

import os

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event
from kafka import KafkaConsumer

seen = set()
records = KafkaConsumer(os.environ["TOPIC"], bootstrap_servers=os.environ["KAFKA"],
                        group_id=os.environ.get("GROUP", "example"), auto_offset_reset="earliest")
for record in records:
    headers = {name: value for name, value in record.headers}
    event = from_kafka_event(KafkaMessage(headers, record.key, record.value))
    if (event.get_source(), event.get_id()) in seen:
        continue
    if event.get_type() == "pgherald.gap":
        print("gap", event.get_data(), flush=True)  # read the database again from `from` on
    else:
        print("event", event.get_id(), event.get_subject(), event.get_data(), flush=True)
    seen.add((event.get_source(), event.get_id()))
