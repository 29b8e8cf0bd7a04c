// Reads events from a topic: KAFKA=localhost:9092 TOPIC=app.orders java Consumer.java
import io.cloudevents.CloudEvent;
import io.cloudevents.kafka.CloudEventDeserializer;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

class Consumer {
    public static void main(String[] arguments) {
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", System.getenv("KAFKA"),
            "group.id", System.getenv().getOrDefault("GROUP", "example"),
            "auto.offset.reset", "earliest");
        Set<String> seen = new HashSet<>();
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new CloudEventDeserializer())) {
            consumer.subscribe(List.of(System.getenv("TOPIC")));
            while (true) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    CloudEvent event = record.value();
                    if (event == null) { // a tombstone: Kafka's client does not ask the deserializer
                        System.out.println("event tombstone of " + new String(record.key()));
                        continue;
                    }
                    if (!seen.add(event.getSource() + " " + event.getId())) continue;
                    String kind = event.getType().equals("pgherald.gap") ? "gap" : "event";
                    String data = event.getData() == null ? "" : new String(event.getData().toBytes());
                    System.out.println(kind + " " + event.getId() + " " + event.getSubject() + " " + data);
                }
            }
        }
    }
}
