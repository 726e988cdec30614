# SPDX-FileCopyrightText: tradekeep.ops contributors
# SPDX-License-Identifier: BSD-2-Clause
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
"""A way from the test hosts to the Debian mirrors, and to nothing else: a small HTTP proxy on the bridge.

The hosts have no route out. Where this machine reaches the mirrors, by whatever means, this relays.
"""

from __future__ import annotations

import http.server
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import Iterator
from urllib.parse import urlsplit

import network

MIRRORS = ("deb.debian.org", "security.debian.org")
ASKED = ("If-Modified-Since", "If-Range", "Range")
TOLD = ("Content-Range", "Content-Type", "Last-Modified")


class Relay(http.server.BaseHTTPRequestHandler):
    """One request of apt."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Fetch for the host what it asked a mirror for."""
        if urlsplit(self.path).hostname not in MIRRORS:
            self.send_error(403, f"only {' and '.join(MIRRORS)}")
            return
        headers = {name: self.headers[name] for name in ASKED if name in self.headers}
        try:
            answer = urllib.request.urlopen(urllib.request.Request(self.path, headers=headers), timeout=60)
        except urllib.error.HTTPError as error:
            answer = error
        except OSError as error:
            self.send_error(502, str(error))
            return
        with answer:
            content = answer.read()
        self.send_response(answer.status)
        for name in TOLD:
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


@contextmanager
def relaying() -> Iterator[str]:
    """The address of a proxy that is there for as long as the context."""
    server = http.server.ThreadingHTTPServer((str(network.SUBNET[1]), 0), Relay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{network.SUBNET[1]}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
