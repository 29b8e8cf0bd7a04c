#!/bin/sh
exec python3 -c "import kafka; kafka.KafkaConsumer(bootstrap_servers='localhost:9092').topics()"
