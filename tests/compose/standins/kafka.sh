#!/bin/sh
# What the image of Kafka does: server.properties from KAFKA_*, a formatted directory, a server.
set -euf
[ $# -eq 0 ] || exec "$@"
: >/tmp/server.properties
for name in $(env | sed -n 's/^\(KAFKA_[A-Z_]*\)=.*/\1/p'); do
    [ "$name" = KAFKA_HEAP_OPTS ] && continue
    key=$(echo "${name#KAFKA_}" | tr 'A-Z_' 'a-z.')
    eval "echo \"$key=\$$name\"" >>/tmp/server.properties
done
java="java $KAFKA_HEAP_OPTS -cp /opt/kafka/libs/*"
[ -f "$KAFKA_LOG_DIRS/meta.properties" ] ||
    $java kafka.tools.StorageTool format -t 4L6g3nShT-eMCtK--X86sw -c /tmp/server.properties
exec $java kafka.Kafka /tmp/server.properties
