"""Checks deliveries of webhooks with the reference libraries of Standard Webhooks and CloudEvents.

check_webhooks.py FOLDER: FOLDER holds `secret` and the deliveries as 000.json, 001.json, …, each with its headers and its
body. Prints `id type subject` of each in order. Ends with 1 and a reason where a library refuses one, or accepts one that
was changed.
Needs standardwebhooks 1.1.0 and cloudevents 2.2.0.
"""

import json
import sys
from pathlib import Path

from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def check(folder):
    webhook = Webhook((folder / "secret").read_text().strip())
    for path in sorted(folder.glob("*.json")):
        delivery = json.loads(path.read_text())
        headers, body = delivery["headers"], delivery["body"].encode()
        webhook.verify(body, headers)
        refuses(webhook, headers, body + b" ")
        refuses(webhook, {**headers, "webhook-id": "evt_other"}, body)
        event = from_http_event(HTTPMessage(headers=headers, body=body))
        assert event.get_id() == headers["webhook-id"], f"{path}: {event.get_id()}"
        assert event.get_specversion() == "1.0" and event.get_time() is not None, str(path)
        assert event.get_source().startswith("urn:muster:fleet:"), event.get_source()
        print(event.get_id(), event.get_type(), event.get_subject())


def refuses(webhook, headers, body):
    try:
        webhook.verify(body, headers)
    except WebhookVerificationError:
        return
    raise AssertionError("a changed delivery was accepted")


if __name__ == "__main__":
    check(Path(sys.argv[1]))
