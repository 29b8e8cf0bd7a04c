"""In place of Kafka's console consumer: every topic that begins with `shop.`, from the beginning."""

import kafka

records = kafka.KafkaConsumer(bootstrap_servers="kafka:9092", auto_offset_reset="earliest", metadata_max_age_ms=2000,
                              group_id="standin", enable_auto_commit=False)
records.subscribe(pattern=r"shop\..*")
for it in records:
    headers = ",".join(f"{name}:{value.decode()}" for name, value in it.headers)
    print(headers, it.key and it.key.decode(), it.value and it.value.decode(), it.topic, sep="\t", flush=True)
