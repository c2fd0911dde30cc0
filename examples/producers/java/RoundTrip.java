import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Ask without HTTP, from Java: write a record to llm.requests, read the reply from llm.replies.
 *
 *     java -cp "$KAFKA_HOME/libs/*" examples/producers/java/RoundTrip.java "What is a log?"
 *
 * KAFKA_HOME is an unpacked Kafka; with Maven: mvn -q -f examples/producers/java compile exec:java -Dexec.args="What is a log?"
 * KAFKA_BOOTSTRAP_SERVERS is Kafka's address (default 127.0.0.1:19092), MODEL the model to use.
 */
public class RoundTrip {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] words) throws Exception {
        String question = words.length > 0 ? String.join(" ", words) : "What is a log?";
        String requestId = UUID.randomUUID().toString();
        String conversationId = UUID.randomUUID().toString();
        String correlationId = "ticket-" + UUID.randomUUID();

        // acks=all, idempotence and the murmur2 partitioner are Java's defaults; two of them are repeated for clarity.
        Map<String, Object> producing = Map.of(
            "bootstrap.servers", env("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:19092"), "acks", "all", "enable.idempotence", true);
        // No group: every reply is read, from now on. A consumer that must not miss any while offline uses a group.
        Map<String, Object> consuming = Map.of(
            "bootstrap.servers", producing.get("bootstrap.servers"), "enable.auto.commit", false);
        try (var replies = new KafkaConsumer<>(consuming, new StringDeserializer(), new StringDeserializer());
             var producer = new KafkaProducer<>(producing, new StringSerializer(), new StringSerializer())) {
            List<TopicPartition> partitions = replies.partitionsFor("llm.replies").stream()
                .map(each -> new TopicPartition(each.topic(), each.partition())).toList();
            if (partitions.isEmpty()) {
                throw new IllegalStateException("there is no topic llm.replies: is the system up?");
            }
            replies.assign(partitions);
            replies.seekToEnd(partitions);
            partitions.forEach(replies::position);  // The end is looked up only when the position is.

            // Only `messages` is required; headers are optional.
            String value = JSON.writeValueAsString(Map.of(
                "messages", List.of(Map.of("role", "user", "content", question)), "model", env("MODEL", "")));
            var request = new ProducerRecord<>("llm.requests", conversationId, value);
            request.headers().add("ce_id", bytes(requestId)).add("correlation_id", bytes(correlationId));
            producer.send(request).get();
            System.out.println("produced request " + requestId);

            ConsumerRecord<String, String> record = await(replies, correlationId);
            JsonNode reply = JSON.readTree(record.value());
            System.out.println(record.topic() + ": " + reply.path("status").asText() + ", conversation " + record.key());
            System.out.println(reply.path("reply").isTextual() ? reply.path("reply").asText() : reply.path("error"));
        }
    }

    private static ConsumerRecord<String, String> await(KafkaConsumer<String, String> replies, String correlationId) {
        Instant limit = Instant.now().plusSeconds(120);
        while (Instant.now().isBefore(limit)) {
            for (var record : replies.poll(Duration.ofSeconds(1))) {
                var header = record.headers().lastHeader("correlation_id");
                if (header != null && correlationId.equals(new String(header.value(), StandardCharsets.UTF_8))) {
                    return record;
                }
            }
        }
        throw new IllegalStateException("no reply within 120 s");
    }

    private static String env(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }
}
