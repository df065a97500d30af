"""An HTTP server on this machine that misbehaves in the way that the path names."""

import base64
import contextlib
import hashlib
import http.server
import threading

BODY = bytes(range(256)) * 40
OTHER = BODY[::-1]
PAGE = b"<!DOCTYPE html><html><body>Log in to the guest network</body></html>"
SHA256 = hashlib.sha256(BODY).hexdigest()
BASE64 = base64.b64encode(hashlib.sha256(BODY).digest()).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.close_connection = True
        self.server.seen.append((self.path, self.headers.get("Range")))
        name = self.path.strip("/").replace(".", "_")
        with contextlib.suppress(ConnectionError):
            getattr(self, f"get_{name}")()

    def head(self, status=200, length=None, **headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def drip(self, data):
        for byte in data:
            if self.server.stopped.wait(0.02):
                return
            self.wfile.write(bytes([byte]))
            self.wfile.flush()

    def get_whole(self):
        self.head(200, len(BODY))
        self.wfile.write(BODY)

    def get_chunked(self):
        self.head(200, Transfer_Encoding="chunked")
        for start in range(0, len(BODY), 1000):
            self.chunk(BODY[start : start + 1000])
        self.wfile.write(b"0\r\n\r\n")

    def get_redirected(self):
        self.head(302, 0, Location="/whole", X_Linked_ETag=f'"{SHA256}"', X_Linked_Size=len(BODY))

    def get_amazon(self):
        self.head(200, len(BODY), x_amz_checksum_sha256=BASE64)
        self.wfile.write(BODY)

    def get_torn_chunk(self):
        self.head(200, Transfer_Encoding="chunked")
        self.wfile.write(b"100000\r\n" + BODY[:1000])

    def get_no_last_chunk(self):
        self.head(200, Transfer_Encoding="chunked")
        self.chunk(BODY)

    def get_negative_chunk(self):
        self.head(200, Transfer_Encoding="chunked")
        self.wfile.write(b"-5\r\n" + BODY)

    def get_empty_chunked(self):
        self.head(200, Transfer_Encoding="chunked")
        self.wfile.write(b"0\r\n\r\n")

    def get_closed(self):
        self.head(200, Connection="close")
        self.wfile.write(BODY[:1000])

    def get_closed_empty(self):
        self.head(200, Connection="close")

    def get_empty(self):
        self.head(200, 0)

    def get_no_content(self):
        self.head(204)

    def get_accepted(self):
        self.head(202, len(BODY))
        self.wfile.write(BODY)

    def get_length_abc(self):
        self.head(200, "abc")
        self.wfile.write(BODY)

    def get_length_negative(self):
        self.head(200, -5)
        self.wfile.write(BODY)

    def get_length_long(self):
        self.head(200, "9" * 5000)
        self.wfile.write(BODY)

    def get_two_lengths(self):
        self.head(200, len(BODY) - 5, Content_length=str(len(BODY)))
        self.wfile.write(BODY)

    def get_linked_size_long(self):
        self.head(302, 0, Location="/whole", X_Linked_Size="9" * 5000)

    def get_range_long(self):
        self.head(206, len(BODY), Content_Range=f"bytes 0-{'9' * 5000}/{'9' * 5000}")
        self.wfile.write(BODY)

    def get_to_port(self):
        self.head(302, 0, Location="http://127.0.0.1:99999/whole")

    def get_to_no_port(self):
        self.head(302, 0, Location="http://127.0.0.1:x/whole")

    def get_to_bracket(self):
        self.head(302, 0, Location="http://[::1/whole")

    def get_to_odd_name(self):
        self.head(302, 0, Location="http://" + "a" * 300 + ".\xff/whole")

    def get_many_headers(self):
        self.head(200, len(BODY), **{f"X_{i}": "x" for i in range(500)})
        self.wfile.write(BODY)

    def get_long_header(self):
        self.head(200, len(BODY), X="x" * 100_000)
        self.wfile.write(BODY)

    def get_short(self):
        self.head(200, 2 * len(BODY))
        self.wfile.write(BODY)

    def get_no_range(self):
        self.head(416, 0)

    def get_busy(self):
        self.head(503, 0)

    def get_portal(self):
        self.head(200, len(PAGE), Content_Type="text/html; charset=utf-8")
        self.wfile.write(PAGE)

    def get_portal_by_redirect(self):
        self.head(302, 0, Location="/portal")

    def get_page_as_binary(self):
        self.head(200, len(PAGE), Content_Type="application/octet-stream")
        self.wfile.write(PAGE)

    def get_gzip(self):
        self.head(200, len(BODY), Content_Encoding="gzip")
        self.wfile.write(BODY)

    def get_part_unasked(self):
        self.head(206, 1000, Content_Range=f"bytes 500-1499/{len(BODY)}")
        self.wfile.write(BODY[500:1500])

    def get_loop(self):
        self.head(302, 0, Location="/loop")

    def get_to_file(self):
        self.head(302, 0, Location="file:///etc/hostname")

    def get_to_ftp(self):
        self.head(302, 0, Location="ftp://127.0.0.1:9/x")

    def get_linked_other(self):
        self.head(302, 0, Location="/other", X_Linked_ETag=f'"{SHA256}"', X_Linked_Size=len(BODY))

    def get_linked_size(self):
        self.head(302, 0, Location="/whole", X_Linked_Size=len(BODY) + 1)

    def get_other(self):
        self.head(200, len(OTHER))
        self.wfile.write(OTHER)

    def get_amazon_other(self):
        self.head(200, len(OTHER), x_amz_checksum_sha256=BASE64)
        self.wfile.write(OTHER)

    def get_digest_other(self):
        self.head(200, len(OTHER), Repr_Digest=f"sha-256=:{BASE64}:")
        self.wfile.write(OTHER)

    def get_no_http(self):
        self.wfile.write(b"\x00\xff not http at all\r\n\r\n" + BODY)

    def get_hangs_up(self):
        pass

    def get_stall(self):
        self.head(200, len(BODY))
        self.wfile.write(BODY[:1000])
        self.server.stopped.wait(60)

    def get_silent(self):
        self.server.stopped.wait(60)

    def get_drip(self):
        self.head(200, len(BODY))
        self.drip(BODY)

    def get_drip_head(self):
        self.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: 1\r\n" * 5000)

    def get_drip_chunk_size(self):
        self.head(200, Transfer_Encoding="chunked")
        self.drip(b"0" * 60_000)

    def get_endless(self):
        self.head(200, Transfer_Encoding="chunked")
        while not self.server.stopped.wait(0.005):
            self.chunk(BODY)

    def get_resume(self):
        """Break off at first; then answer the range as the test says."""
        asked = self.headers.get("Range")
        if asked is None and self.server.breaks:
            self.server.breaks -= 1
            self.head(200, len(BODY), **self.server.first)
            self.wfile.write(BODY[:4000])
            return
        if asked is None:
            self.head(200, len(OTHER), **self.server.then)
            self.wfile.write(OTHER)
            return
        start, status, stated, headers = self.server.answer
        part = OTHER[start:]
        self.head(status, len(part), Content_Range=stated, **headers)
        self.wfile.write(part)


@contextlib.contextmanager
def serve():
    """Yield a running server with `url`, `seen` and `stopped`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    server.seen, server.stopped = [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
