"""Clients of Kafka and NATS: what lies at the servers."""

import base64

from common import record, said, streams, topics, version


def kafka_python(path, brokers):
    from kafka import KafkaConsumer, TopicPartition

    client = version("kafka-python")
    consumer = KafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest",
                             enable_auto_commit=False, consumer_timeout_ms=30000)
    parts = [TopicPartition(topic, 0) for topic in topics(path)]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    for _ in range(sum(consumer.end_offsets(parts).values())):
        it = next(consumer)
        record(client, it.topic, it.offset, it.key, it.value, it.headers)
    consumer.close()


def confluent_kafka(path, brokers):
    from confluent_kafka import Consumer, TopicPartition

    client = version("confluent-kafka")
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "prove-confluent", "enable.auto.commit": False})
    parts = [TopicPartition(topic, 0, 0) for topic in topics(path)]
    left = sum(consumer.get_watermark_offsets(part, timeout=30)[1] for part in parts)
    consumer.assign(parts)
    while left:
        it = consumer.poll(30)
        if it is None or it.error():
            raise RuntimeError(f"{client}: {it and it.error()}, {left} missing")
        record(client, it.topic(), it.offset(), it.key(), it.value(), it.headers())
        left -= 1
    consumer.close()


async def aiokafka(path, brokers):
    from aiokafka import AIOKafkaConsumer, TopicPartition

    client = version("aiokafka")
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, enable_auto_commit=False)
    await consumer.start()
    try:
        parts = [TopicPartition(topic, 0) for topic in topics(path)]
        consumer.assign(parts)
        await consumer.seek_to_beginning(*parts)
        for _ in range(sum((await consumer.end_offsets(parts)).values())):
            it = await consumer.getone()
            record(client, it.topic, it.offset, it.key, it.value, it.headers)
    finally:
        await consumer.stop()


async def nats_py(path, url):
    import nats

    client = version("nats-py")
    connection = await nats.connect(url)
    context = connection.jetstream()
    for stream in streams(path):
        state = (await context.stream_info(stream)).state
        for sequence in range(state.first_seq, state.last_seq + 1):
            message = await context.get_msg(stream, seq=sequence)
            said(client, None, stream=stream, sequence=sequence,
                 value=base64.b64encode(message.data or b"").decode(),
                 headers=[[k, v] for k, v in (message.headers or {}).items()])
    await connection.close()
