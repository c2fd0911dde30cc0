#!/bin/sh
# Ask without HTTP and without a program, with the console tools of Kafka: a record to llm.requests, the reply from llm.replies.
#
#     PATH="$KAFKA_HOME/bin:$PATH" sh examples/producers/console/round_trip.sh "What is a log?"
#
# KAFKA_HOME is an unpacked Kafka, 4.2 or newer; /opt/kafka in its image. KAFKA_BOOTSTRAP_SERVERS says where Kafka is
# (127.0.0.1:19092 without it). The question must not hold a tab, a quotation mark or a backslash: this is no JSON writer.
set -eu
question=${*:-What is a log?}
kafka=${KAFKA_BOOTSTRAP_SERVERS:-127.0.0.1:19092}
uuid() { cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen; }
request_id=$(uuid) conversation_id=$(uuid) correlation_id=ticket-$(uuid)

# Listen to all replies that are kept, so that it does not matter which of the two tools is up first.
replies=$(mktemp)
kafka-console-consumer.sh --bootstrap-server "$kafka" --topic llm.replies --from-beginning \
  --formatter-property print.headers=true --formatter-property print.key=true >"$replies" &
listener=$!
trap 'kill "$listener"; rm -f "$replies"' EXIT

# A line is headers, tab, key, tab, value. The key is the conversation; Java's clients partition by it as they should.
printf 'ce_id:%s,correlation_id:%s\t%s\t{"messages": [{"role": "user", "content": "%s"}], "model": "%s"}\n' \
  "$request_id" "$correlation_id" "$conversation_id" "$question" "${MODEL:-}" |
  kafka-console-producer.sh --bootstrap-server "$kafka" --topic llm.requests --sync \
    --command-property acks=all --command-property enable.idempotence=true \
    --reader-property parse.headers=true --reader-property parse.key=true
echo "produced request $request_id"

tries=0
until grep "correlation_id:$correlation_id" "$replies"; do
  tries=$((tries + 1))
  [ "$tries" -le 120 ] || { echo "no reply within 120 s" >&2; exit 1; }
  kill -0 "$listener"  # Ends here if nobody listens any more.
  sleep 1
done
