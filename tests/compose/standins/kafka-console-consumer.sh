#!/bin/sh
exec python3 /opt/kafka/bin/consume.py
