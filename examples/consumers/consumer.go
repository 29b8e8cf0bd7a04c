// Reads events from a stream: NATS=nats://localhost:4222 STREAM=APP go run consumer.go
package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	natsce "github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func main() {
	connection, err := nats.Connect(os.Getenv("NATS"))
	if err != nil {
		panic(err)
	}
	stream, _ := jetstream.New(connection)
	consumer, err := stream.OrderedConsumer(context.Background(), os.Getenv("STREAM"), jetstream.OrderedConsumerConfig{})
	if err != nil {
		panic(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		panic(err)
	}
	seen := map[string]bool{}
	for {
		message, err := messages.Next()
		if err != nil {
			panic(err)
		}
		wrapped := natsce.NewMessage(&nats.Msg{Header: message.Headers(), Data: message.Data()})
		event, err := binding.ToEvent(context.Background(), wrapped)
		if err != nil {
			panic(err)
		}
		if key := event.Source() + " " + event.ID(); seen[key] {
			continue
		} else {
			seen[key] = true
		}
		kind := "event"
		if event.Type() == "pgherald.gap" {
			kind = "gap"
		}
		subject, _ := url.PathUnescape(event.Subject()) // the SDK leaves attributes encoded
		fmt.Println(kind, event.ID(), subject, string(event.Data()))
	}
}
