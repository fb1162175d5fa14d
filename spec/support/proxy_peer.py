#!/usr/bin/python3
"""A forward proxy on loopback, for the specs: absolute requests and CONNECT.

  proxy_peer.py [--login USER:PASSWORD] [--log FILE]

The first line of output is the port. Each request's first line goes to FILE. With --login, who does
not give it gets a 407. Every connection carries one request or one tunnel.
"""
import argparse
import base64
import select
import socket
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

options = None
lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def admitted(self):
        with lock, open(options.log, "a") as log:
            log.write(self.requestline + "\n")
        wanted = "Basic " + base64.b64encode((options.login or "").encode()).decode()
        if not options.login or self.headers.get("Proxy-Authorization") == wanted:
            return True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def tunnel(self, other):
        pair = (self.connection, other)
        while True:
            for ready in select.select(pair, (), ())[0]:
                data = ready.recv(65536)
                if not data:
                    return
                pair[ready is self.connection].sendall(data)

    def do_CONNECT(self):
        self.close_connection = True
        if not self.admitted():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host.strip("[]"), int(port))) as other:
            self.connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self.tunnel(other)

    def forward(self):
        self.close_connection = True
        if not self.admitted():
            return
        url = urllib.parse.urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        head = [f"{self.command} {url.path or '/'} HTTP/1.1", "Connection: close", "Via: 1.1 proxy"]
        head += [f"{name}: {value}" for name, value in self.headers.items()
                 if not name.lower().startswith(("proxy-", "connection"))]
        with socket.create_connection((url.hostname, url.port or 80)) as other:
            other.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + self.rfile.read(length))
            while data := other.recv(65536):
                self.connection.sendall(data)

    do_GET = do_POST = do_PUT = forward


def main():
    global options
    parser = argparse.ArgumentParser()
    parser.add_argument("--login")
    parser.add_argument("--log", default="/dev/null")
    options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


main()
