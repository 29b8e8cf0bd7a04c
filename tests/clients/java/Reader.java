// What the SDK and clients in Java make of the wire. Prints a JSON line a finding.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cloudevents.CloudEvent;
import io.cloudevents.http.HttpMessageFactory;
import io.cloudevents.kafka.CloudEventDeserializer;
import io.nats.client.Connection;
import io.nats.client.JetStreamSubscription;
import io.nats.client.Message;
import io.nats.client.Nats;
import io.nats.client.PushSubscribeOptions;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

class Reader {
    static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        List<JsonNode> wire = new ArrayList<>();
        for (String text : Files.readAllLines(Path.of(arguments[0]))) {
            JsonNode line = JSON.readTree(text);
            if (line.has("sink")) wire.add(line);
        }
        sdk(wire);
        kafka(wire, arguments[1]);
        nats(wire, arguments[2]);
        System.exit(0);
    }

    static void sdk(List<JsonNode> wire) {
        for (int n = 0; n < wire.size(); n++) {
            String envelope = wire.get(n).get("envelope").asText(), sink = wire.get(n).get("sink").asText();
            boolean isRead = !envelope.equals("none") && !envelope.equals("batch") && !sink.equals("nats");
            if (isRead) say(n, wire.get(n), sink);
        }
    }

    /** The topics or streams of the dump, and how many messages each holds. */
    static Map<String, Integer> places(List<JsonNode> wire, String sink) {
        Map<String, Integer> places = new TreeMap<>();
        for (JsonNode line : wire) {
            String name = line.get("pipeline").asText() + (sink.equals("kafka") ? "-" : "_") + line.get("envelope").asText();
            name = sink.equals("kafka") ? "wire-" + name : ("wire_" + name).toUpperCase();
            if (line.get("sink").asText().equals(sink)) places.merge(name, 1, Integer::sum);
        }
        return places;
    }

    static void kafka(List<JsonNode> wire, String brokers) {
        Map<String, Integer> topics = places(wire, "kafka");
        int left = topics.values().stream().mapToInt(it -> it).sum();
        long until = System.nanoTime() + 60_000_000_000L;
        try (var consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", brokers), new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            List<TopicPartition> parts = topics.keySet().stream().map(it -> new TopicPartition(it, 0)).toList();
            consumer.assign(parts);
            consumer.seekToBeginning(parts);
            while (left > 0 && System.nanoTime() < until) {
                for (var record : consumer.poll(Duration.ofSeconds(1))) {
                    ObjectNode said = JSON.createObjectNode().put("client", "kafka-clients 4.4.0");
                    said.putNull("n").put("topic", record.topic()).put("offset", record.offset());
                    said.put("key", base64(record.key())).put("value", base64(record.value()));
                    ArrayNode headers = said.putArray("headers");
                    record.headers().forEach(it -> headers.addArray().add(it.key()).add(new String(it.value(), StandardCharsets.UTF_8)));
                    System.out.println(said);
                    left--;
                }
            }
        }
    }

    static void nats(List<JsonNode> wire, String servers) throws Exception {
        try (Connection connection = Nats.connect(servers)) {
            for (var stream : places(wire, "nats").entrySet()) {
                JetStreamSubscription messages = connection.jetStream()
                    .subscribe(">", PushSubscribeOptions.builder().stream(stream.getKey()).ordered(true).build());
                for (int left = stream.getValue(); left > 0; left--) {
                    Message message = messages.nextMessage(Duration.ofSeconds(30));
                    ObjectNode said = JSON.createObjectNode().put("client", "jnats " + Nats.CLIENT_VERSION).putNull("n");
                    said.put("stream", stream.getKey()).put("sequence", message.metaData().streamSequence());
                    said.put("value", base64(message.getData()));
                    ArrayNode headers = said.putArray("headers");
                    message.getHeaders().entrySet().forEach(it -> it.getValue().forEach(value -> headers.addArray().add(it.getKey()).add(value)));
                    System.out.println(said);
                }
                messages.unsubscribe();
            }
        }
    }

    static String base64(byte[] bytes) {
        return bytes == null ? null : Base64.getEncoder().encodeToString(bytes);
    }

    static void say(int n, JsonNode line, String sink) {
        ObjectNode said = JSON.createObjectNode().put("client", "java sdk 4.0.1").put("n", n);
        try {
            tell(said, event(line, sink));
        } catch (Exception error) {
            said.put("error", error.toString());
        }
        System.out.println(said);
    }

    static CloudEvent event(JsonNode line, String sink) {
        byte[] body = line.get("body").isNull() ? null : Base64.getDecoder().decode(line.get("body").asText());
        List<Map.Entry<String, String>> headers = new ArrayList<>();
        line.get("headers").forEach(it -> headers.add(Map.entry(it.get(0).asText(), it.get(1).asText())));
        if (sink.equals("http")) {
            return HttpMessageFactory.createReader(each -> headers.forEach(it -> each.accept(it.getKey(), it.getValue())), body).toEvent();
        }
        RecordHeaders record = new RecordHeaders();
        headers.forEach(it -> record.add(it.getKey(), it.getValue().getBytes(StandardCharsets.UTF_8)));
        try (CloudEventDeserializer deserializer = new CloudEventDeserializer()) {
            return deserializer.deserialize("topic", record, body);
        }
    }

    static void tell(ObjectNode said, CloudEvent event) {
        ObjectNode attributes = said.putObject("attributes");
        for (String name : event.getAttributeNames()) {
            if (!name.equals("time")) attributes.put(name, event.getAttribute(name).toString());
        }
        for (String name : event.getExtensionNames()) attributes.put(name, event.getExtension(name).toString());
        if (event.getData() == null) said.putNull("data");
        else said.putObject("data").put("base64", base64(event.getData().toBytes()));
    }
}
