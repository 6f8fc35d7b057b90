// A webhook receiver that verifies what it gets. Go 1.19 or later, standard library only.
//
//	go run receiver.go --port 8000 --secret whsec_...
//
// It takes deliveries of JoggAI v2 (header X-Webhook-Signature) and KonPro v1 (header Signature).
// Both signatures are the lower-case hex HMAC-SHA256 of the raw body, keyed with the whole secret
// text, `whsec_` included.
//
// It answers 200 to a genuine delivery and 401 to anything else, and prints one JSON line for each:
// {"event":"generated_video_success","verified":true}
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
)

const bodyBytesMax = 1024 * 1024

type report struct {
	Event    *string `json:"event"`
	Verified bool    `json:"verified"`
}

func verify(body []byte, signature, secret string) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	expected := hex.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(signature), []byte(expected))
}

func eventOf(body []byte) *string {
	var content struct {
		Event     *string `json:"event"`
		EventType *string `json:"event_type"`
	}
	if err := json.Unmarshal(body, &content); err != nil {
		return nil
	}
	if content.Event != nil {
		return content.Event
	}
	return content.EventType
}

func main() {
	port := flag.Int("port", 0, "0: any free port")
	secret := flag.String("secret", "", "the endpoint's secret, whsec_...")
	flag.Parse()
	if *secret == "" {
		fmt.Fprintln(os.Stderr, "usage: receiver [--port PORT] --secret whsec_...")
		os.Exit(2)
	}
	var printing sync.Mutex
	lines := json.NewEncoder(os.Stdout)

	receive := func(response http.ResponseWriter, request *http.Request) {
		switch request.Method {
		case http.MethodOptions:
			// KonPro v1 asks with OPTIONS whether anybody is there before it registers an endpoint.
			response.WriteHeader(http.StatusNoContent)
			return
		case http.MethodPost:
		default:
			response.Header().Set("Allow", "POST, OPTIONS")
			response.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		// Verify the bytes as they came; JSON parsed and written again is other bytes.
		body, err := io.ReadAll(http.MaxBytesReader(response, request.Body, bodyBytesMax))
		if err != nil {
			response.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		signature := request.Header.Get("X-Webhook-Signature")
		if signature == "" {
			signature = request.Header.Get("Signature")
		}
		result := report{Verified: verify(body, signature, *secret)}
		status := http.StatusUnauthorized
		if result.Verified {
			// An unverified body is a stranger's: it is not even read.
			result.Event = eventOf(body)
			status = http.StatusOK
		}
		// A real receiver puts the event into its queue here and works on it after the answer.
		printing.Lock()
		lines.Encode(result)
		printing.Unlock()
		response.WriteHeader(status)
	}

	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	log.Fatal(http.Serve(listener, http.HandlerFunc(receive)))
}
