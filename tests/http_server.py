"""A folder behind HTTP on loopback, as a test wants it: with ranges or without, and with files that fail."""

import contextlib
import functools
import http.server
import re
import threading


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves ranges, which the standard library's does not, and fails where a name says so."""

    has_ranges = True

    def do_GET(self):
        if "fails" in self.path:
            self.send_error(500)
            return
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not match or not self.has_ranges:
            super().do_GET()
            return
        first, last = map(int, match.groups())
        with open(self.translate_path(self.path), "rb") as file:
            content = file.read()
        part = content[first : last + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self):
        if self.has_ranges:
            self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(folder, *, has_ranges=True):
    """Serves a folder; gives its address."""
    handler = type("Handler", (_Handler,), {"has_ranges": has_ranges})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
