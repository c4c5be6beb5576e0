"""A server that speaks the JSON interface of Google's object store, on loopback.

It is `gcp-storage-emulator`, with what it lacks added: generation preconditions
(``ifGenerationMatch=0``: only where there is no object), which it ignores; the end of an upload
that is given up; and credentials: it gives out tokens for a service account whose signature is
right, and refuses every request without one.
"""

from __future__ import annotations

import base64
import json
import logging
from contextlib import contextmanager
from functools import partial
from http.server import HTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

TOKEN = "ya29.planted-token-that-must-never-be-seen"
ACCOUNT = "tests@ovamgen.iam.gserviceaccount.com"


class PreconditionError(Exception):
    """There is an object where there was to be none."""


class Objects(Storage):
    """The emulator's objects, in memory."""

    only_if_none = False
    """Of the request that is served; there is one at a time."""

    def __init__(self):
        super().__init__(use_memory_fs=True)
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.uploads_if_none = set()

    def create_resumable_upload(self, *arguments):
        upload = super().create_resumable_upload(*arguments)
        if self.only_if_none:
            self.uploads_if_none.add(upload)
        return upload

    def create_file(self, bucket_name, file_name, content, file_obj, file_id=None):
        condition = self.only_if_none or file_id in self.uploads_if_none
        if condition and file_name in self.objects.get(bucket_name, {}):
            raise PreconditionError
        super().create_file(bucket_name, file_name, content, file_obj, file_id)

    def create_empty(self, bucket_name, file_name):
        """An object without bytes, which the emulator's simplest upload does not take."""
        described = {"name": file_name, "size": "0", "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg=="}
        self.create_file(bucket_name, file_name, b"", {**described, "bucket": bucket_name})

    def _write_config_to_file(self):
        """Nothing outlives this process."""

    def account(self, token_uri):
        """What Google gives as a key file."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "type": "service_account",
            "project_id": "ovamgen-tests",
            "private_key_id": "1",
            "private_key": key.decode(),
            "client_email": ACCOUNT,
            "token_uri": token_uri,
        }


class Handler(RequestHandler):
    """The emulator's, behind a look at who asks."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *arguments):
        pass

    def end_headers(self):
        # one request a connection: this server has one thread
        self.send_header("Connection", "close")
        super().end_headers()

    def do_POST(self):  # noqa: N802
        if urlsplit(self.path).path == "/token":
            return self._give_token()
        self._checked(super().do_POST)

    def do_GET(self):  # noqa: N802
        self._checked(super().do_GET)

    def do_PUT(self):  # noqa: N802
        self._checked(super().do_PUT)

    def do_DELETE(self):  # noqa: N802
        if "upload_id=" in self.path:
            # an upload that is given up; the emulator has no such call, the store answers this
            return self._answer(499, {})
        self._checked(super().do_DELETE)

    def _checked(self, serve):
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return self._answer(401, {"error": {"code": 401, "message": "Invalid Credentials"}})
        asked = parse_qs(urlsplit(self.path).query)
        self.storage.only_if_none = asked.get("ifGenerationMatch") == ["0"]
        try:
            serve()
        except PreconditionError:
            said = "At least one of the pre-conditions you specified did not hold."
            self._answer(412, {"error": {"code": 412, "message": said}})

    def _give_token(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        signed, _, signature = form["assertion"][0].rpartition(".")
        try:
            self.storage.key.public_key().verify(
                base64.urlsafe_b64decode(signature + "=="),
                signed.encode(),
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        except Exception:
            return self._answer(400, {"error": "invalid_grant", "error_description": "Invalid JWT"})
        self._answer(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})

    def _answer(self, status, content):
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(HTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that were killed are no news."""


@contextmanager
def google_server():
    """URL and objects of the server, while the block lasts."""
    for name in ("gcp_storage_emulator.server", "gcp_storage_emulator.storage", "api.object"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    storage = Objects()
    server = _Server(("127.0.0.1", 0), partial(Handler, storage))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", storage
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
