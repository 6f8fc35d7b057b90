#!/usr/bin/env python3
"""A webhook receiver that verifies with the Standard Webhooks library.

    pip install standardwebhooks
    python3 standard_webhooks.py --port 8000 --secret whsec_...

Every delivery of every contract carries the webhook-id, webhook-timestamp and webhook-signature
headers that the library checks, the age of the timestamp included.

It answers 200 to a genuine delivery and 401 to anything else, and prints one JSON line for each:
{"event": "generated_video_success", "verified": true}
"""

import argparse
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

BODY_BYTES_MAX = 1024 * 1024


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            return self.answer(413 if length.isdecimal() else 411)
        body = self.rfile.read(int(length))
        headers = {name.lower(): value for name, value in self.headers.items()}
        event, verified = None, False
        try:
            # The library takes the body as text, since what it verifies is always JSON.
            content = Webhook(self.server.secret).verify(body.decode(), headers)
            verified = True
            event = content.get("type") or content.get("event") or content.get("event_type")
        except (WebhookVerificationError, ValueError):
            pass  # ValueError: a header or the body is not even of its form.
        print(json.dumps({"event": event, "verified": verified}), flush=True)
        self.answer(200 if verified else 401)

    def do_OPTIONS(self):
        self.answer(204)

    def answer(self, status: int):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    arguments = argparse.ArgumentParser(description="Verifies Standard Webhooks deliveries.")
    arguments.add_argument("--port", type=int, default=0, help="0: any free port")
    arguments.add_argument("--secret", required=True, help="the endpoint's secret, whsec_...")
    chosen = arguments.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", chosen.port), Handler)
    server.daemon_threads = True
    server.secret = chosen.secret
    print(f"listening on 127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
