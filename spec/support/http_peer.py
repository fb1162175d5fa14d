#!/usr/bin/python3
"""An HTTP/1.1 server on loopback that behaves as its paths say, for the specs.

  http_peer.py [--host ADDRESS] [--cert FILE --key FILE [--client-ca FILE]]

With --cert and --key: HTTPS; with --client-ca, for clients with a certificate of that authority.

The first line of output is the port. What a path does, in any method:

  /echo             200 and JSON {method, path, headers: [[name, value], ...], body}
  /status/CODE      that status, the body "status CODE" (with /status/429 also Retry-After: 7)
  /delay/SECONDS    200 after a while
  /body/BYTES       200 and a body of that many bytes
  /header/BYTES     200 and that many bytes of headers, in lines of 1000
  /line/BYTES       200 and one header line of that many bytes
  /twice            200 and the header X-Twice in two lines
  /cut              the header, half of the body, then the end of the connection
  /slam             the end of the connection without an answer
  /redirect         302 to /echo
  /count            200 and JSON {connections, requests} so far, this one not included
"""
import argparse
import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

lock = threading.Lock()
count = {"connections": 0, "requests": 0}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        with lock:
            count["connections"] += 1

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def handle_request(self):
        body = self.read_body()
        what, _, argument = self.path.partition("?")[0].strip("/").partition("/")
        seen = dict(count)
        with lock:
            count["requests"] += what != "count"
        if what == "count":
            self.answer(200, json.dumps(seen).encode())
        elif what == "status":
            extra = [("Retry-After", "7")] if argument == "429" else []
            self.answer(int(argument), b"status " + argument.encode(), extra)
        elif what == "delay":
            time.sleep(float(argument))
            self.answer(200, b"late")
        elif what == "body":
            self.answer(200, b"x" * int(argument))
        elif what == "header":
            lines = int(argument) // 1000
            self.answer(200, b"", [(f"X-{n:04}", "x" * 992) for n in range(lines)])
        elif what == "line":
            self.answer(200, b"", [("X-Long", "x" * int(argument))])
        elif what == "twice":
            self.answer(200, b"", [("X-Twice", "one"), ("Other", ""), ("x-twice", " two ")])
        elif what == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"x" * 50)
            self.close_connection = True
        elif what == "slam":
            self.close_connection = True
        elif what == "redirect":
            self.answer(302, b"", [("Location", "/echo")])
        else:
            seen = {"method": self.command, "path": self.path, "headers": self.headers.items(),
                    "body": body.decode("utf-8", "replace")}
            self.answer(200, json.dumps(seen).encode(), [("Content-Type", "application/json")])

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.handle_request
        raise AttributeError(name)


class Server(ThreadingHTTPServer):
    request_queue_size = 2048
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--client-ca")
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    threading.stack_size(256 * 1024)
    if ":" in options.host:
        Server.address_family = socket.AF_INET6
    server = Server((options.host, 0), Handler)
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)
        if options.client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(options.client_ca)
        server.socket = context.wrap_socket(server.socket, server_side=True,
                                            do_handshake_on_connect=False)
    print(server.server_port, flush=True)
    server.serve_forever()


main()
