import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Endpoint sets as somebody who knows Kafka Streams writes them: commits in, per Service a merged set in a state store
 * with its changelog, and for each event a full row with what changed out. Arguments: bootstrap servers, input topic,
 * output topic, state folder, store (memory or rocksdb).
 */
public final class EndpointSets {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] args) throws InterruptedException {
    Properties config = new Properties();
    config.put(StreamsConfig.APPLICATION_ID_CONFIG, "bench-kafka-streams-" + args[4]);
    config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
    config.put(StreamsConfig.STATE_DIR_CONFIG, args[3]);
    config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    config.put("auto.offset.reset", "earliest");
    config.put("compression.type", "lz4");
    config.put("max.partition.fetch.bytes", 8 * 1024 * 1024);
    config.put("max.request.size", 17 * 1024 * 1024);
    StreamsBuilder builder = new StreamsBuilder();
    var supplier = args[4].equals("rocksdb")
        ? Stores.persistentKeyValueStore("sets")
        : Stores.inMemoryKeyValueStore("sets");
    builder.addStateStore(
        Stores.keyValueStoreBuilder(supplier, Serdes.String(), Serdes.ByteArray()).withLoggingEnabled(Map.of()));
    builder.stream(args[1], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .process(Merge::new, "sets")
        .to(args[2], Produced.with(Serdes.String(), Serdes.ByteArray()));
    KafkaStreams streams = new KafkaStreams(builder.build(), config);
    CountDownLatch end = new CountDownLatch(1);
    streams.setUncaughtExceptionHandler(error -> {
      error.printStackTrace();
      end.countDown();
      return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse
          .SHUTDOWN_CLIENT;
    });
    Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
    streams.start();
    end.await();
    System.exit(1);
  }

  private static final class Merge implements Processor<byte[], byte[], String, byte[]> {
    private ProcessorContext<String, byte[]> context;
    private KeyValueStore<String, byte[]> sets;

    @Override
    public void init(ProcessorContext<String, byte[]> context) {
      this.context = context;
      this.sets = context.getStateStore("sets");
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      try {
        JsonNode commit = JSON.readTree(record.value());
        for (JsonNode event : commit.path("events")) {
          String key = commit.get("cluster").asText() + "/" + event.get("namespace").asText() + "/"
              + event.get("service").asText();
          byte[] row = apply(key, event);
          sets.put(key, row);
          context.forward(new Record<>(key, row, record.timestamp()));
        }
      } catch (IOException error) {
        throw new UncheckedIOException(error);
      }
    }

    private byte[] apply(String key, JsonNode event) throws IOException {
      byte[] held = sets.get(key);
      ObjectNode old = held == null ? JSON.createObjectNode() : (ObjectNode) JSON.readTree(held);
      Map<String, JsonNode> slices = new TreeMap<>();
      for (JsonNode group : old.path("groups")) {
        slices.put(group.get("slice").asText(), group);
      }
      Map<String, JsonNode> before = merged(slices);
      boolean service = old.path("service").asBoolean();
      String name = event.get("name").asText();
      boolean applied = event.get("op").asText().equals("apply");
      if (event.get("kind").asText().equals("Service")) {
        service = applied;
      } else if (applied) {
        JsonNode group = event.get("object").get("groups").get(0);
        ObjectNode next = JSON.createObjectNode();
        next.put("slice", name);
        next.set("uid", event.get("uid"));
        next.set("resourceVersion", event.get("resourceVersion"));
        next.set("family", group.get("family"));
        next.set("ports", group.get("ports"));
        next.set("endpoints", group.get("endpoints"));
        slices.put(name, next);
      } else {
        slices.remove(name);
      }
      Map<String, JsonNode> after = merged(slices);
      ObjectNode row = JSON.createObjectNode();
      row.put("key", key);
      row.put("service", service);
      row.put("state", !service ? "deleted" : after.isEmpty() ? "empty" : "ready");
      ObjectNode cause = row.putObject("cause");
      cause.set("kind", event.get("kind"));
      cause.put("name", name);
      cause.set("uid", event.get("uid"));
      cause.set("resourceVersion", event.get("resourceVersion"));
      ArrayNode groups = row.putArray("groups");
      slices.values().forEach(groups::add);
      ObjectNode change = row.putObject("change");
      ArrayNode added = change.putArray("added");
      ArrayNode removed = change.putArray("removed");
      ArrayNode updated = change.putArray("updated");
      for (Map.Entry<String, JsonNode> each : after.entrySet()) {
        JsonNode was = before.get(each.getKey());
        if (was == null) {
          added.add(each.getValue());
        } else if (!was.equals(each.getValue())) {
          updated.add(each.getValue());
        }
      }
      before.forEach((identity, endpoint) -> {
        if (!after.containsKey(identity)) {
          removed.add(endpoint);
        }
      });
      return JSON.writeValueAsBytes(row);
    }

    /** By family, address and ports; where two slices claim one, the newer says what it is. */
    private static Map<String, JsonNode> merged(Map<String, JsonNode> slices) {
      List<JsonNode> ordered = new ArrayList<>(slices.values());
      ordered.sort((a, b) -> Long.compare(a.get("resourceVersion").asLong(), b.get("resourceVersion").asLong()));
      Map<String, JsonNode> found = new HashMap<>();
      for (JsonNode group : ordered) {
        String kind = group.get("family").asText() + group.get("ports");
        for (JsonNode endpoint : group.get("endpoints")) {
          found.put(kind + endpoint.get("address").asText(), endpoint);
        }
      }
      return found;
    }
  }
}
