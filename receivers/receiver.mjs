// A webhook receiver that verifies what it gets. Node 18 or later, standard library only.
//
//     node receiver.mjs --port 8000 --secret whsec_...
//
// It takes deliveries of JoggAI v2 (header X-Webhook-Signature) and KonPro v1 (header Signature).
// Both signatures are the lower-case hex HMAC-SHA256 of the raw body, keyed with the whole secret
// text, `whsec_` included.
//
// It answers 200 to a genuine delivery and 401 to anything else, and prints one JSON line for each:
// {"event":"generated_video_success","verified":true}

import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

const BODY_BYTES_MAX = 1024 * 1024;

const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "0" }, // 0: any free port
    secret: { type: "string" }, // the endpoint's secret, whsec_...
  },
});
if (!options.secret) {
  console.error("usage: node receiver.mjs [--port PORT] --secret whsec_...");
  process.exit(2);
}

function verify(body, signature, secret) {
  const expected = Buffer.from(createHmac("sha256", secret).update(body).digest("hex"));
  const given = Buffer.from(signature);
  // timingSafeEqual throws when the lengths differ.
  return given.length === expected.length && timingSafeEqual(given, expected);
}

function receive(request, response, body) {
  const signature = request.headers["x-webhook-signature"] ?? request.headers["signature"] ?? "";
  const verified = verify(body, signature, options.secret);
  // An unverified body is a stranger's: do not even read it.
  const content = verified ? JSON.parse(body) : {};
  const event = content.event ?? content.event_type ?? null;
  // A real receiver puts the event into its queue here and works on it after the answer.
  console.log(JSON.stringify({ event, verified }));
  response.writeHead(verified ? 200 : 401).end();
}

const server = createServer((request, response) => {
  if (request.method === "OPTIONS") {
    // KonPro v1 asks with OPTIONS whether anybody is there before it registers an endpoint.
    request.resume();
    response.writeHead(204).end();
    return;
  }
  if (request.method !== "POST") {
    request.resume();
    response.writeHead(405, { Allow: "POST, OPTIONS" }).end();
    return;
  }
  // Verify the bytes as they came; JSON parsed and written again is other bytes.
  const chunks = [];
  let length = 0;
  request.on("data", (chunk) => {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) {
      request.destroy();
    } else {
      chunks.push(chunk);
    }
  });
  request.on("end", () => receive(request, response, Buffer.concat(chunks)));
});

server.listen(Number(options.port), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
