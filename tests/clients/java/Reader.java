// What the Java SDK makes of the wire. Prints a JSON line an event.
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.cloudevents.CloudEvent;
import io.cloudevents.http.HttpMessageFactory;
import io.cloudevents.kafka.CloudEventDeserializer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.header.internals.RecordHeaders;

class Reader {
    static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        int n = 0;
        for (String text : Files.readAllLines(Path.of(arguments[0]))) {
            JsonNode line = JSON.readTree(text);
            if (!line.has("sink")) continue;
            String envelope = line.get("envelope").asText(), sink = line.get("sink").asText();
            boolean isRead = !envelope.equals("none") && !envelope.equals("batch") && !sink.equals("nats");
            if (isRead) say(n, line, sink);
            n++;
        }
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
        else said.putObject("data").put("base64", Base64.getEncoder().encodeToString(event.getData().toBytes()));
    }
}
