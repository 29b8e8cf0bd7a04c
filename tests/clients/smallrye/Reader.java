// What SmallRye (Quarkus' messaging) makes of Kafka's records. Prints a JSON line an event.
import io.smallrye.reactive.messaging.ce.IncomingCloudEventMetadata;
import io.smallrye.reactive.messaging.kafka.api.IncomingKafkaRecordMetadata;
import io.vertx.core.json.JsonObject;
import jakarta.enterprise.context.ApplicationScoped;
import jakarta.enterprise.inject.se.SeContainerInitializer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Base64;
import java.util.TreeMap;
import java.util.Map;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.eclipse.microprofile.reactive.messaging.Incoming;
import org.eclipse.microprofile.reactive.messaging.Message;

@ApplicationScoped
public class Reader {
    static CountDownLatch left;

    public static void main(String[] arguments) throws Exception {
        Map<String, Integer> topics = new TreeMap<>();
        for (String text : Files.readAllLines(Path.of(arguments[0]))) {
            JsonObject line = new JsonObject(text);
            String envelope = line.getString("envelope");
            if ("kafka".equals(line.getString("sink")) && !envelope.equals("none"))
                topics.merge("wire-" + line.getString("pipeline") + "-" + envelope, 1, Integer::sum);
        }
        left = new CountDownLatch(topics.values().stream().mapToInt(it -> it).sum());
        Map.of("connector", "smallrye-kafka", "bootstrap.servers", arguments[1], "topics", String.join(",", topics.keySet()),
            "group.id", "prove-smallrye", "auto.offset.reset", "earliest", "commit-strategy", "ignore",
            "value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer",
            "key.deserializer", "org.apache.kafka.common.serialization.StringDeserializer", "health-enabled", "false")
            .forEach((name, value) -> System.setProperty("mp.messaging.incoming.wire." + name, value));
        SeContainerInitializer.newInstance().initialize();
        boolean isRead = left.await(300, TimeUnit.SECONDS);
        System.out.flush();
        Runtime.getRuntime().halt(isRead ? 0 : 1);
    }

    @Incoming("wire")
    public CompletionStage<Void> take(Message<?> message) {
        IncomingKafkaRecordMetadata<?, ?> record = message.getMetadata(IncomingKafkaRecordMetadata.class).orElseThrow();
        JsonObject said = new JsonObject().put("client", "smallrye 4.25.0").putNull("n")
            .put("topic", record.getTopic()).put("offset", record.getOffset());
        var event = message.getMetadata(IncomingCloudEventMetadata.class);
        if (event.isEmpty()) said.put("error", "no event");
        else said.put("attributes", attributes(event.get())).put("data", form(event.get().getData()));
        System.out.println(said.encode());
        left.countDown();
        return message.ack();
    }

    static JsonObject attributes(IncomingCloudEventMetadata<?> event) {
        JsonObject attributes = new JsonObject().put("specversion", event.getSpecVersion()).put("id", event.getId())
            .put("source", event.getSource().toString()).put("type", event.getType());
        event.getSubject().ifPresent(it -> attributes.put("subject", it));
        event.getDataContentType().ifPresent(it -> attributes.put("datacontenttype", it));
        event.getDataSchema().ifPresent(it -> attributes.put("dataschema", it.toString()));
        event.getExtensions().forEach((name, value) -> attributes.put(name, value.toString()));
        return attributes;
    }

    static JsonObject form(Object data) {
        if (data == null) return null;
        if (data instanceof byte[] bytes) return new JsonObject().put("base64", Base64.getEncoder().encodeToString(bytes));
        if (data instanceof String text) return new JsonObject().put("text", text);
        return new JsonObject().put("json", data);
    }
}
