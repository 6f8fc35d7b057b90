#!/usr/bin/env python3
"""A webhook receiver that verifies what it gets. Python 3.8 or later, standard library only.

    python3 receiver.py --port 8000 --secret whsec_...

It takes deliveries of JoggAI v2 (header X-Webhook-Signature) and KonPro v1 (header Signature).
Both signatures are the lower-case hex HMAC-SHA256 of the raw body, keyed with the whole secret
text, `whsec_` included.

It answers 200 to a genuine delivery and 401 to anything else, and prints one JSON line for each:
{"event": "generated_video_success", "verified": true}
"""

import argparse
import hashlib
import hmac
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_BYTES_MAX = 1024 * 1024


def verify(body: bytes, signature: str, secret: str) -> bool:
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    # Compared as bytes: compare_digest raises on text that is not ASCII.
    return hmac.compare_digest(signature.encode("utf-8", "surrogateescape"), expected.encode())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        # Verify the bytes as they came; JSON parsed and written again is other bytes.
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            return self.answer(413 if length.isdecimal() else 411)
        body = self.rfile.read(int(length))
        signature = self.headers.get("X-Webhook-Signature") or self.headers.get("Signature") or ""
        verified = verify(body, signature, self.server.secret)
        # An unverified body is a stranger's: do not even read it.
        event = None
        if verified:
            content = json.loads(body)
            event = content.get("event") or content.get("event_type")
        # A real receiver puts the event into its queue here and works on it after the answer.
        print(json.dumps({"event": event, "verified": verified}), flush=True)
        self.answer(200 if verified else 401)

    def do_OPTIONS(self):
        # KonPro v1 asks with OPTIONS whether anybody is there before it registers an endpoint.
        self.answer(204)

    def answer(self, status: int):
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def main():
    arguments = argparse.ArgumentParser(description="Verifies webhook deliveries.")
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
