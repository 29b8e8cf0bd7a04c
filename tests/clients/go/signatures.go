// The libraries that verify signatures.
package main

import (
	"net/http"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	svix "github.com/svix/svix-webhooks/go"
)

type verifier interface {
	Verify(payload []byte, headers http.Header) error
}

func signatures(lines []line, secret string) {
	for client, hook := range map[string]verifier{
		"go standardwebhooks " + version("github.com/standard-webhooks/standard-webhooks/libraries"): must(standardwebhooks.NewWebhook(secret)),
		"go svix " + version("github.com/svix/svix-webhooks"):                                        must(svix.NewWebhook(secret)),
	} {
		for n, it := range lines {
			if it.Sink != "http" {
				continue
			}
			headers := http.Header{}
			for _, header := range it.Headers {
				headers.Add(header[0], header[1])
			}
			if err := hook.Verify(it.body(), headers); err != nil {
				say(client, n, map[string]any{"error": err.Error()})
			} else {
				say(client, n, map[string]any{"verified": true})
			}
		}
	}
}
