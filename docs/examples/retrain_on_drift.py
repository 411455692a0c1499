"""Starts a retraining when inputs of a model have drifted. A receiver for Muster's webhooks.

    pip install standardwebhooks
    MUSTER_WEBHOOK_SECRET=whsec_... python retrain_on_drift.py --port 8080 -- ./retrain.sh

and on the server: muster webhook add http://127.0.0.1:8080/ --events drift.detected,drift.repeated

It retrains when a distribution moved on all devices with a release, and not for a broken sensor, a single site or missing values, which have
the same event. A drift is an event for each feature and version that shows it, so a model is retrained once and then left alone for
--cooldown-hours, counted from the end of the training.

The command gets the whole event as JSON on its standard input. Behind a proxy that ends TLS, or with a certificate of its own, the
receiver may stand anywhere.
"""

import argparse
import json
import os
import queue
import subprocess
import threading
import time
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

# Larger bodies are not Muster's.
MAX_BODY_BYTES = 1_000_000
# Ids that are remembered, to drop what comes twice, and models whose cool-down is known. The oldest go first. A service that is
# restarted keeps both in its database.
REMEMBERED = 10_000
# A drift that is still there is told as repeated, once an hour at most: it may have come in a cool-down, or its training failed.
RETRAINED_EVENTS = ("dev.muster.drift.detected", "dev.muster.drift.repeated")
# Who has to have moved: the devices with one release, or devices everywhere. One device or one site is for a person to look at.
RETRAINED_SCOPES = ("model", "world")


class Cooldown:
    """Which models were taken up lately. One that waits for its training, or is in it, is taken up until that ends."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.until = OrderedDict()
        self.lock = threading.Lock()

    def begins(self, model):
        """Whether the model is to be taken up now, and then it is."""
        with self.lock:
            if self.until.get(model, 0) > time.monotonic():
                return False
            self.note(model, float("inf"))
            return True

    def ended(self, model, trained):
        """After a training that failed the next event of the model may try again at once."""
        with self.lock:
            self.note(model, time.monotonic() + (self.seconds if trained else 0))

    def note(self, model, until):
        self.until[model] = until
        self.until.move_to_end(model)
        if len(self.until) > REMEMBERED:
            self.until.popitem(last=False)


class Receiver(BaseHTTPRequestHandler):
    """Checks who sends, notes what came, and answers at once: work that takes long is for the worker."""

    webhook: Webhook
    work: queue.Queue
    cooldown: Cooldown
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
        # What is not for us is answered 204 too: anything else would be delivered again, and hold up what comes after it.
        if self.is_new(self.headers["webhook-id"]) and asks_for_retraining(event) and self.cooldown.begins(event["subject"]):
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


def asks_for_retraining(event):
    """Broken data and odd devices are `drift.detected` as well: the cause and the scope tell."""
    if event["type"] not in RETRAINED_EVENTS:
        return False
    found = event["data"].get("alarm", {}).get("found", {})
    # The scope of one device or site is an object: {"sensor": {"device": "cam-7"}}.
    return found.get("cause", {}).get("kind") == "drift" and found.get("scope") in RETRAINED_SCOPES


def retrain(work, command, cooldown):
    """One after the other: another model waits for the training that the first one began."""
    while True:
        event = work.get()
        model, found = event["subject"], event["data"]["alarm"]["found"]
        print(f"{model}: {found['feature']} drifts ({found['scope']}), retraining", flush=True)
        try:
            status = subprocess.run(command, input=json.dumps(event), text=True, check=False).returncode
            print(f"{model}: the training ended with status {status}", flush=True)
        except OSError as error:
            status = None
            print(f"{model}: the training did not start: {error}", flush=True)
        cooldown.ended(model, status == 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--cooldown-hours", type=float, default=6.0, help="for so long a model is not retrained again")
    parser.add_argument("command", nargs="+", help="what retrains")
    arguments = parser.parse_args()
    Receiver.webhook = Webhook(os.environ["MUSTER_WEBHOOK_SECRET"])
    Receiver.work = queue.Queue()
    Receiver.cooldown = Cooldown(arguments.cooldown_hours * 3_600)
    work = (Receiver.work, arguments.command, Receiver.cooldown)
    threading.Thread(target=retrain, args=work, daemon=True).start()
    server = ThreadingHTTPServer(("127.0.0.1", arguments.port), Receiver)
    print(f"listening on {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
