#!/usr/bin/python3
"""An SMTP server on loopback (aiosmtpd) that keeps what it gets, for the specs.

  smtp_peer.py --dir DIR [option]...

The first line of output is the port. Each mail becomes DIR/0001.eml (as it came, dots unstuffed)
and DIR/0001.json: {from, to: [...], mail_options: [...], rcpt_options: {address: [...]}, hello,
tls, user}, written in this order, so that a .json tells that its .eml is whole.
DIR/connections holds how many connections came so far, DIR/commands every command line.

  --starttls            offer STARTTLS (needs --cert, --key)
  --require-starttls    and refuse mail without it
  --tls                 speak TLS from the first byte (needs --cert, --key)
  --cert FILE --key FILE
  --auth USER:PASSWORD  offer PLAIN, LOGIN, CRAM-MD5 and XOAUTH2 (PASSWORD is the token) and refuse
                        mail without it
  --reject PATTERN      550 (two lines) for recipients that match this regular expression
  --defer PATTERN       451 for recipients that match
  --reject-from PATTERN 553 for senders that match
  --reject-data         554 for the content of every mail
  --dsn                 offer DSN (RFC 3461); without it its parameters are refused
  --no-smtputf8         do not offer SMTPUTF8
  --quit-delay SECONDS  answer QUIT late
  --data-delay SECONDS  answer the content late
  --mails N             answer 421 to a MAIL after that many mails over a connection, and close it
  --idle SECONDS        close a connection after that long without a command
  --host ADDRESS        to listen on, 127.0.0.1 when not given
"""
import argparse
import asyncio
import base64
import hmac
import json
import logging
import os
import re
import ssl
import warnings

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, LoginPassword


class Server(SMTP):
    def __init__(self, peer, **arguments):
        super().__init__(peer, **arguments)
        self.peer = peer
        self.mails = 0

    def connection_made(self, transport):
        if not self.session:  # the second call is for STARTTLS
            self.peer.connected()
        super().connection_made(transport)

    async def smtp_MAIL(self, arg):
        self.rcpt_options = {}
        self.mails += 1
        if self.mails > self.peer.options.mails:
            await self.push("421 4.7.0 enough for this connection")
            self.transport.close()
            return
        await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg):
        parts = re.match(r"(?i)(TO: ?<[^>]*>)\s*(.*)$", arg or "")
        if self.peer.options.dsn and parts and parts[2]:
            arg = parts[1]
            self.rcpt_options[parts[1][parts[1].index("<") + 1:-1]] = parts[2].split()
        await super().smtp_RCPT(arg)

    async def smtp_QUIT(self, arg):
        await asyncio.sleep(self.peer.options.quit_delay)
        await super().smtp_QUIT(arg)


class Peer:
    def __init__(self, options):
        self.options = options
        self.connections = self.mails = 0
        self.write("connections", b"0")

    def write(self, name, data):
        path = os.path.join(self.options.dir, name)
        with open(path + ".part", "wb") as file:
            file.write(data)
        os.rename(path + ".part", path)

    def connected(self):
        self.connections += 1
        self.write("connections", b"%d" % self.connections)

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        session.host_name = hostname
        if self.options.dsn:
            responses.insert(-1, "250-DSN")
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        if self.options.reject_from and re.search(self.options.reject_from, address):
            return "553 5.1.8 this sender is refused"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 sender fine"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if self.options.reject and re.search(self.options.reject, address):
            return f"550-5.1.1 no such user\r\n550 5.1.1 {address} is refused"
        if self.options.defer and re.search(self.options.defer, address):
            return "451 4.2.1 try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 recipient fine"

    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(self.options.data_delay)
        if self.options.reject_data:
            return "554 5.6.0 this content is refused"
        self.mails += 1
        name = f"{self.mails:04}"
        user = session.auth_data
        self.write(name + ".eml", envelope.original_content)
        self.write(name + ".json", json.dumps({
            "from": envelope.mail_from, "to": envelope.rcpt_tos,
            "mail_options": envelope.mail_options, "rcpt_options": server.rcpt_options,
            "hello": session.host_name, "tls": session.ssl is not None or self.options.tls,
            "user": user.decode() if user else None}).encode())
        return f"250 2.0.0 kept as {name}"

    def authenticate(self, server, session, envelope, mechanism, data):
        user, password = self.options.auth.split(":", 1)
        fine = (isinstance(data, LoginPassword) and data.login == user.encode()
                and data.password == password.encode())
        return AuthResult(success=fine, handled=False, auth_data=user.encode() if fine else None)

    async def auth_CRAM__MD5(self, server, args):
        user, password = self.options.auth.split(":", 1)
        challenge = b"<1896.697170952@peer>"
        answer = await server.challenge_auth(challenge)
        if answer is MISSING:
            return AuthResult(success=False)
        digest = hmac.new(password.encode(), challenge, "md5").hexdigest()
        fine = answer.decode() == f"{user} {digest}"
        return AuthResult(success=fine, handled=False, auth_data=user.encode() if fine else None)

    async def auth_XOAUTH2(self, server, args):
        user, token = self.options.auth.split(":", 1)
        answer = base64.b64decode(args[1]) if len(args) > 1 else await server.challenge_auth("")
        fine = answer == f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
        return AuthResult(success=fine, handled=False, auth_data=user.encode() if fine else None)


def log_commands(path):
    """aiosmtpd logs each line that it reads, secrets blanked, as 'peer >> line'."""
    handler = logging.FileHandler(path)
    handler.addFilter(lambda record: ">>" in record.msg)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("mail.log")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(handler)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", required=True)
    for name in ("cert", "key", "auth", "reject", "defer", "reject-from"):
        parser.add_argument("--" + name)
    for name in ("starttls", "require-starttls", "tls", "reject-data", "dsn", "no-smtputf8"):
        parser.add_argument("--" + name, action="store_true")
    for name in ("quit-delay", "data-delay"):
        parser.add_argument("--" + name, type=float, default=0)
    parser.add_argument("--mails", type=int, default=1 << 30)
    parser.add_argument("--idle", type=float, default=300)
    parser.add_argument("--host", default="127.0.0.1")
    options = parser.parse_args()
    peer = Peer(options)
    log_commands(os.path.join(options.dir, "commands"))
    warnings.simplefilter("ignore")
    loop = asyncio.get_running_loop()
    context = None
    if options.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.cert, options.key)

    def make():
        return Server(peer, hostname="peer", timeout=options.idle,
                      enable_SMTPUTF8=not options.no_smtputf8,
                      data_size_limit=64 << 20,
                      tls_context=context if options.starttls else None,
                      require_starttls=options.require_starttls,
                      authenticator=peer.authenticate if options.auth else None,
                      auth_required=bool(options.auth), auth_require_tls=False, loop=loop)

    server = await loop.create_server(make, options.host, 0, backlog=1024,
                                      ssl=context if options.tls else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
