// What SDKs and clients in Go make of the wire. Prints a JSON line a finding.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strings"

	"github.com/IBM/sarama"
	"github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	natsce "github.com/cloudevents/sdk-go/protocol/nats_jetstream/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	"github.com/nats-io/nats.go"
)

type line struct {
	Secret   string      `json:"secret"`
	Pipeline string      `json:"pipeline"`
	Sink     string      `json:"sink"`
	Envelope string      `json:"envelope"`
	Key      *string     `json:"key"`
	Headers  [][2]string `json:"headers"`
	Body     *string     `json:"body"`
}

func (it line) body() []byte {
	if it.Body == nil {
		return nil
	}
	return must(base64.StdEncoding.DecodeString(*it.Body))
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, it := range info.Deps {
		if it.Path == module {
			return it.Version
		}
	}
	return "?"
}

func say(client string, n int, rest map[string]any) {
	rest["client"], rest["n"] = client, n
	text, _ := json.Marshal(rest)
	fmt.Println(string(text))
}

func tell(client string, n int, it event.Event) {
	attributes := map[string]any{"specversion": it.SpecVersion(), "id": it.ID(), "source": it.Source(), "type": it.Type()}
	for name, value := range map[string]string{"subject": it.Subject(), "datacontenttype": it.DataContentType(), "dataschema": it.DataSchema()} {
		if value != "" {
			attributes[name] = value
		}
	}
	for name, value := range it.Extensions() {
		attributes[name] = fmt.Sprint(value)
	}
	rest := map[string]any{"attributes": attributes, "data": nil}
	if it.Data() != nil {
		rest["data"] = map[string]string{"base64": base64.StdEncoding.EncodeToString(it.Data())}
	}
	say(client, n, rest)
}

func events(it line, body []byte) ([]event.Event, error) {
	one := func(found *event.Event, err error) ([]event.Event, error) {
		if err != nil {
			return nil, err
		}
		return []event.Event{*found}, nil
	}
	switch it.Sink {
	case "kafka":
		message := &sarama.ConsumerMessage{Value: body}
		for _, header := range it.Headers {
			message.Headers = append(message.Headers, &sarama.RecordHeader{Key: []byte(header[0]), Value: []byte(header[1])})
		}
		return one(binding.ToEvent(context.Background(), kafka_sarama.NewMessageFromConsumerMessage(message)))
	case "nats":
		headers := nats.Header{}
		for _, header := range it.Headers {
			headers.Add(header[0], header[1])
		}
		return one(binding.ToEvent(context.Background(), natsce.NewMessage(&nats.Msg{Header: headers, Data: body})))
	default:
		request, _ := http.NewRequest("POST", "http://hook/", bytes.NewReader(body))
		for _, header := range it.Headers {
			request.Header.Add(header[0], header[1])
		}
		if it.Envelope == "batch" {
			return cehttp.NewEventsFromHTTPRequest(request)
		}
		return one(cehttp.NewEventFromHTTPRequest(request))
	}
}

func sdk(lines []line) {
	client := "go sdk " + version("github.com/cloudevents/sdk-go/v2")
	for n, it := range lines {
		if it.Envelope == "none" {
			continue
		}
		found, err := events(it, it.body())
		if err != nil {
			say(client, n, map[string]any{"error": strings.ReplaceAll(err.Error(), "\n", " ")})
			continue
		}
		for _, event := range found {
			tell(client, n, event)
		}
	}
}

// The messages of the dump, and what signs the requests.
func read(path string) ([]line, string) {
	scanner := bufio.NewScanner(must(os.Open(path)))
	scanner.Buffer(nil, 64<<20)
	var lines []line
	var secret string
	for scanner.Scan() {
		var it line
		if err := json.Unmarshal(scanner.Bytes(), &it); err != nil {
			panic(err)
		}
		if it.Sink == "" {
			secret = it.Secret
			continue
		}
		lines = append(lines, it)
	}
	return lines, secret
}

func main() {
	lines, secret := read(os.Args[1])
	signatures(lines, secret) // first: the libraries take a signature for five minutes
	sdk(lines)
	franz(lines, os.Args[2])
	segmentio(lines, os.Args[2])
	saramas(lines, os.Args[2])
}
