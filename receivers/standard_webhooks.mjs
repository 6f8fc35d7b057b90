// A webhook receiver that verifies with the Standard Webhooks library.
//
//     npm install standardwebhooks
//     node standard_webhooks.mjs --port 8000 --secret whsec_...
//
// Every delivery of every contract carries the webhook-id, webhook-timestamp and webhook-signature
// headers that the library checks, the age of the timestamp included.
//
// It answers 200 to a genuine delivery and 401 to anything else, and prints one JSON line for each:
// {"event":"generated_video_success","verified":true}

import { createServer } from "node:http";
import { parseArgs } from "node:util";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const BODY_BYTES_MAX = 1024 * 1024;

const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: "0" }, // 0: any free port
    secret: { type: "string" }, // the endpoint's secret, whsec_...
  },
});
if (!options.secret) {
  console.error("usage: node standard_webhooks.mjs [--port PORT] --secret whsec_...");
  process.exit(2);
}
const webhook = new Webhook(options.secret);

function receive(request, response, body) {
  let event = null;
  let verified = false;
  try {
    const content = webhook.verify(body.toString(), request.headers);
    verified = true;
    event = content.type ?? content.event ?? content.event_type ?? null;
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
  }
  console.log(JSON.stringify({ event, verified }));
  response.writeHead(verified ? 200 : 401).end();
}

const server = createServer((request, response) => {
  if (request.method === "OPTIONS") {
    request.resume();
    response.writeHead(204).end();
    return;
  }
  if (request.method !== "POST") {
    request.resume();
    response.writeHead(405, { Allow: "POST, OPTIONS" }).end();
    return;
  }
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
