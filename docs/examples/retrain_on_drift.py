"""Starts a retraining when inputs of a model have drifted. A receiver for Muster's webhooks.

    pip install standardwebhooks
    MUSTER_WEBHOOK_SECRET=whsec_... python retrain_on_drift.py --port 8080 -- ./retrain.sh

and on the server: muster webhook add http://127.0.0.1:8080/ --events drift.detected

The command gets the model, the feature and the whole event as JSON on its standard input. Behind a proxy that ends TLS, or
with a certificate of its own, the receiver may stand anywhere.
"""

import argparse
import json
import os
import queue
import subprocess
import threading
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

# Larger bodies are not Muster's.
MAX_BODY_BYTES = 1_000_000
# Ids that are remembered, to drop what comes twice. A service that is restarted keeps them in its database.
REMEMBERED = 10_000


class Receiver(BaseHTTPRequestHandler):
    """Checks who sends, notes what came, and answers at once: work that takes long is for the worker."""

    webhook: Webhook
    work: queue.Queue
    seen: OrderedDict = OrderedDict()
    lock = threading.Lock()

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BODY_BYTES:
            return self.answer(413)
        body = self.rfile.read(length)
        try:
            event = self.webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            return self.answer(401)
        if self.is_new(self.headers["webhook-id"]) and event["type"] == "dev.muster.drift.detected":
            self.work.put(event)
        self.answer(204)

    def is_new(self, delivery):
        with self.lock:
            if delivery in self.seen:
                return False
            self.seen[delivery] = True
            if len(self.seen) > REMEMBERED:
                self.seen.popitem(last=False)
            return True

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def retrain(work, command):
    """One after the other: a second alarm waits for the training that the first one began."""
    while True:
        event = work.get()
        found = event["data"]["alarm"]["found"]
        print(f"{event['subject']}: {found['feature']} drifts, retraining", flush=True)
        subprocess.run(command, input=json.dumps(event), text=True, check=False)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("command", nargs="+", help="what retrains")
    arguments = parser.parse_args()
    Receiver.webhook = Webhook(os.environ["MUSTER_WEBHOOK_SECRET"])
    Receiver.work = queue.Queue()
    threading.Thread(target=retrain, args=(Receiver.work, arguments.command), daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Receiver)
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
