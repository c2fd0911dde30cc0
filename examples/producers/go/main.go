// Ask without HTTP, from Go with franz-go: write a record to llm.requests, read the reply from llm.replies.
//
//	cd examples/producers/go && go run . "What is a log?"
//
// KAFKA_BOOTSTRAP_SERVERS is Kafka's address (default 127.0.0.1:19092), MODEL the model to use.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	if err := run(cmp.Or(strings.Join(os.Args[1:], " "), "What is a log?")); err != nil {
		log.Fatal(err)
	}
}

func run(question string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// acks=all, idempotence and Java's murmur2 partitioner are franz-go's defaults; they are repeated for clarity.
	// No group: replies are read from a minute ago on. A consumer that must not miss any while offline uses a group instead.
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(cmp.Or(os.Getenv("KAFKA_BOOTSTRAP_SERVERS"), "127.0.0.1:19092"), ",")...),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ConsumeTopics("llm.replies"),
		kgo.ConsumeStartOffset(kgo.NewOffset().AfterMilli(time.Now().Add(-time.Minute).UnixMilli())),
	)
	if err != nil {
		return err
	}
	defer client.Close()

	requestID, conversationID, correlationID := uuid(), uuid(), "ticket-"+uuid()
	value, err := json.Marshal(map[string]any{
		"messages": []map[string]string{{"role": "user", "content": question}},
		"model":    os.Getenv("MODEL"), // Empty: the default.
	})
	if err != nil {
		return err
	}
	record := &kgo.Record{Topic: "llm.requests", Key: []byte(conversationID), Value: value, Headers: []kgo.RecordHeader{
		{Key: "ce_id", Value: []byte(requestID)},
		{Key: "correlation_id", Value: []byte(correlationID)},
	}}
	if err := client.ProduceSync(ctx, record).FirstErr(); err != nil {
		return err
	}
	fmt.Println("produced request", requestID)

	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, reply := range fetches.Records() {
			if header(reply, "correlation_id") == correlationID {
				return show(reply)
			}
		}
	}
}

func show(record *kgo.Record) error {
	var reply struct {
		Status string
		Reply  *string
		Error  json.RawMessage
	}
	if err := json.Unmarshal(record.Value, &reply); err != nil {
		return err
	}
	fmt.Printf("%s: %s, conversation %s\n", record.Topic, reply.Status, record.Key)
	if reply.Reply == nil {
		fmt.Println(string(reply.Error))
	} else {
		fmt.Println(*reply.Reply)
	}
	return nil
}

func header(record *kgo.Record, key string) string {
	for _, header := range record.Headers {
		if header.Key == key {
			return string(header.Value)
		}
	}
	return ""
}

// uuid returns a random UUID, version 4.
func uuid() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // It never fails.
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
