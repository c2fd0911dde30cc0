#!/bin/sh
# Ask without HTTP or a program, with Kafka's console tools: a record to llm.requests, the reply from llm.replies.
#
#     PATH="$KAFKA_HOME/bin:$PATH" sh examples/producers/console/round_trip.sh "What is a log?"
#
# KAFKA_HOME is an unpacked Kafka, 4.2 or newer; /opt/kafka in its image. KAFKA_BOOTSTRAP_SERVERS is Kafka's address
# (default 127.0.0.1:19092). The question must not contain a tab, a quotation mark or a backslash: nothing escapes them.
set -eu
question=${*:-What is a log?}
kafka=${KAFKA_BOOTSTRAP_SERVERS:-127.0.0.1:19092}
uuid() { cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen; }
request_id=$(uuid) conversation_id=$(uuid) correlation_id=ticket-$(uuid)

# Read all replies that are kept, so that the order in which the two tools start does not matter.
replies=$(mktemp)
kafka-console-consumer.sh --bootstrap-server "$kafka" --topic llm.replies --from-beginning \
  --formatter-property print.headers=true --formatter-property print.key=true >"$replies" &
listener=$!
trap 'kill "$listener"; rm -f "$replies"' EXIT

# A line is headers, tab, key, tab, value. The key is the conversation; Java clients partition by it correctly.
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
  kill -0 "$listener"  # Ends the script if the listener has died.
  sleep 1
done
