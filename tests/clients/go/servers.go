// Clients of Kafka: what lies at the broker.
package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"
)

type header struct {
	name  string
	value []byte
}

func base(it []byte) any {
	if it == nil {
		return nil
	}
	return base64.StdEncoding.EncodeToString(it)
}

func record(client, topic string, offset int64, key, value []byte, headers []header) {
	pairs := [][2]string{}
	for _, it := range headers {
		pairs = append(pairs, [2]string{it.name, string(it.value)})
	}
	text, _ := json.Marshal(map[string]any{"client": client, "n": nil, "topic": topic, "offset": offset,
		"key": base(key), "value": base(value), "headers": pairs})
	fmt.Println(string(text))
}

// Every topic of the dump, and how many records it holds.
func topics(lines []line) ([]string, map[string]int) {
	counts := map[string]int{}
	for _, it := range lines {
		if it.Sink == "kafka" {
			counts["wire-"+it.Pipeline+"-"+it.Envelope]++
		}
	}
	names := []string{}
	for name := range counts {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, counts
}

func must[T any](it T, err error) T {
	if err != nil {
		panic(err)
	}
	return it
}

func franz(lines []line, brokers string) {
	client := "franz-go " + version("github.com/twmb/franz-go")
	names, counts := topics(lines)
	left := 0
	for _, count := range counts {
		left += count
	}
	consumer := must(kgo.NewClient(kgo.SeedBrokers(strings.Split(brokers, ",")...), kgo.ConsumeTopics(names...)))
	defer consumer.Close()
	within, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for left > 0 {
		fetches := consumer.PollFetches(within)
		if err := fetches.Err0(); err != nil {
			panic(err)
		}
		fetches.EachRecord(func(it *kgo.Record) {
			var headers []header
			for _, each := range it.Headers {
				headers = append(headers, header{each.Key, each.Value})
			}
			record(client, it.Topic, it.Offset, it.Key, it.Value, headers)
			left--
		})
	}
}

func segmentio(lines []line, brokers string) {
	client := "kafka-go " + version("github.com/segmentio/kafka-go")
	names, counts := topics(lines)
	within, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, name := range names {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: strings.Split(brokers, ","), Topic: name, MaxWait: 200 * time.Millisecond})
		for range counts[name] {
			it := must(reader.ReadMessage(within))
			var headers []header
			for _, each := range it.Headers {
				headers = append(headers, header{each.Key, each.Value})
			}
			record(client, it.Topic, it.Offset, it.Key, it.Value, headers)
		}
		reader.Close()
	}
}

func saramas(lines []line, brokers string) {
	client := "sarama " + version("github.com/IBM/sarama")
	names, counts := topics(lines)
	config := sarama.NewConfig()
	config.Version = sarama.V2_8_0_0
	consumer := must(sarama.NewConsumer(strings.Split(brokers, ","), config))
	defer consumer.Close()
	for _, name := range names {
		partition := must(consumer.ConsumePartition(name, 0, sarama.OffsetOldest))
		for range counts[name] {
			it := <-partition.Messages()
			var headers []header
			for _, each := range it.Headers {
				headers = append(headers, header{string(each.Key), each.Value})
			}
			record(client, it.Topic, it.Offset, it.Key, it.Value, headers)
		}
		partition.Close()
	}
}
