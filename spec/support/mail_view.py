#!/usr/bin/python3
"""Prints what a mail program would see in a raw mail, as one line of JSON.

  mail_view.py FILE.eml

{headers: {Name: decoded value}, longest: columns of the longest line of the top header,
 defects: [..], shape: "mixed(alternative(plain,html),png)",
 parts: [{type, disposition, filename, name, content_id, text | bytes (base64)}, ...]}
"""
import base64
import json
import re
import sys
from email import message_from_bytes, policy


def shape(part):
    kind = part.get_content_subtype()
    return f"{kind}({','.join(map(shape, part.iter_parts()))})" if part.is_multipart() else kind


def main():
    with open(sys.argv[1], "rb") as file:
        raw = file.read()
    mail = message_from_bytes(raw, policy=policy.default)
    parts, defects = [], [str(defect) for defect in mail.defects]
    for part in mail.walk():
        defects += [str(defect) for defect in part.defects]
        if part.is_multipart():
            continue
        content = part.get_content()
        content = content.replace("\r\n", "\n") if isinstance(content, str) else content
        parts.append({"type": part.get_content_type(), "filename": part.get_filename(),
                      "disposition": part.get_content_disposition(),
                      "name": part["Content-Type"].params.get("name"),
                      "encoding": part.get("Content-Transfer-Encoding"),
                      "content_id": part.get("Content-ID"),
                      **({"text": content} if isinstance(content, str)
                         else {"bytes": base64.b64encode(content).decode()})})
    top = raw.split(b"\r\n\r\n", 1)[0].split(b"\r\n")
    print(json.dumps({
        "headers": {name: str(value) for name, value in mail.items()},
        "longest": max(map(len, top)), "bare": bool(re.search(rb"[^\r]\n|\r[^\n]", raw)),
        "ascii": raw.isascii(), "defects": defects, "shape": shape(mail), "parts": parts}))


main()
