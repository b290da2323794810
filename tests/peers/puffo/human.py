# SPDX-License-Identifier: MIT
"""A person on a Puffo server, one command at a time, for scripts.

Keys, and the messages that were read, are in DIR. Output is one line per thing, tab-separated, or JSON with --json
(a list where there can be several). Exit status: 0, 1 with a message on stderr, 2 for wrong usage.

Messages are printed once: what "read" has shown is acknowledged and goes to "history". A message whose signature,
certificates or ciphertext are wrong is shown as an error with its reason, and acknowledged as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import sys
from typing import Any

from puffo import envelope, keystore
from puffo.client import Client, ClientError, Connection, sign_up
from puffo.crypto import CryptoError, parse_object


class Person:
    """A client together with what it has read."""

    def __init__(self, args: argparse.Namespace):
        self.args, self.state = args, args.state
        self.keys, self.history = args.state / "keys", args.state / "messages.jsonl"
        self.seen = {m["envelope_id"]: m for m in self.messages()}
        self._client: Client | None = None

    def messages(self) -> list[dict[str, Any]]:
        if not self.history.exists():
            return []
        return [parse_object(line) for line in self.history.read_text(encoding="utf-8").splitlines()]

    @property
    def slug(self) -> str:
        slugs = keystore.list_identities(self.keys)
        if self.args.slug:
            return self.args.slug
        if not slugs:
            raise ClientError(f"nobody is registered in {self.state}: see register")
        return slugs[0]

    def connection(self, url: str | None = None) -> Connection:
        url = self.args.server or url
        if not url:
            raise ClientError("--server is missing")
        return Connection(url, self.args.ca)

    @property
    def client(self) -> Client:
        if self._client is None:
            slug = self.slug
            try:
                url = keystore.load_identity(self.keys, slug).server_url
            except (OSError, KeyError, CryptoError) as e:
                raise ClientError(f"no identity {slug!r} in {self.keys}: {e}") from None
            self._client = Client(self.connection(url), self.keys, slug)
        return self._client

    # --- reading ---

    def message(self, payload: dict[str, Any], sealed: dict[str, Any]) -> dict[str, Any]:
        shown = {k: payload[k] for k in ("envelope_id", "envelope_kind", "sender_slug", "space_id", "channel_id",
                                         "recipient_slug", "thread_root_id", "reply_to_id", "sent_at")}
        return {**shown, "encrypted": sealed.get("type") == "message_envelope",
                "text": envelope.content_text(payload), "attachments": envelope.content_attachments(payload)}

    def catch_up(self) -> list[dict[str, Any]]:
        """New messages, saved and then acknowledged. One that cannot be opened has an error."""
        client, new, ids = self.client, [], []
        for sealed in client.pending():
            envelope_id = sealed.get("envelope_id") if isinstance(sealed, dict) else None
            try:
                message = self.message(client.open(sealed), sealed)
            except CryptoError as e:
                message = {"envelope_id": envelope_id, "error": e.reason}
            if isinstance(envelope_id, str):
                ids.append(envelope_id)
            if envelope_id not in self.seen:
                self.seen[envelope_id] = message
                new.append(message)
        with open(self.history, "a", encoding="utf-8") as f:
            f.writelines(json.dumps(m) + "\n" for m in new)
        client.acknowledge(ids)
        return [m for m in new if "error" in m or m["sender_slug"] != client.slug]

    def read(self, seconds: float, count: int) -> list[dict[str, Any]]:
        found = self.catch_up()

        def woken() -> bool:
            found.extend(self.catch_up())
            return len(found) >= count
        if seconds and len(found) < count:
            asyncio.run(self.client.follow(seconds, woken))
        return found


# --- commands ---

def register(person: Person, args: argparse.Namespace) -> Any:
    if keystore.list_identities(person.keys):
        raise ClientError(f"{person.slug} is registered in {person.state} already")
    identity = sign_up(person.connection(), person.keys, args.username, args.display_name, args.invite_code)
    Client(person.connection(), person.keys, identity.slug).rotate()
    return {"slug": identity.slug, "device_id": identity.device_id}


def whoami(person: Person, args: argparse.Namespace) -> Any:
    identity = person.client.identity
    return {"slug": identity.slug, "device_id": identity.device_id, "server_url": person.client.connection.url}


def create_agent(person: Person, args: argparse.Namespace) -> Any:
    identity = person.client.create_agent(args.username, args.keys)
    return {"slug": identity.slug, "device_id": identity.device_id, "keys": str(args.keys / f"{identity.slug}.json")}


def create_space(person: Person, args: argparse.Namespace) -> Any:
    return person.client.create_space(args.name)


def spaces(person: Person, args: argparse.Namespace) -> Any:
    return [{k: s.get(k) for k in ("space_id", "name")} for s in person.client.call("GET", "/spaces")["spaces"]]


def create_channel(person: Person, args: argparse.Namespace) -> Any:
    made = person.client.create_channel(args.space, args.name, args.public)
    return {k: made[k] for k in ("channel_id", "name", "space_id")}


def channels(person: Person, args: argparse.Namespace) -> Any:
    found = person.client.call("GET", f"/spaces/{args.space}/channels")["channels"]
    return [{k: c.get(k) for k in ("channel_id", "name", "is_public")} for c in found]


def members(person: Person, args: argparse.Namespace) -> Any:
    found = person.client.members(args.space, args.channel)
    return [{k: m.get(k) for k in ("slug", "role", "identity_type", "online")} for m in found]


def invite(person: Person, args: argparse.Namespace) -> Any:
    return {"invitation_event_id": person.client.invite(args.slug_invited, args.space, args.channel)}


INVITE = ("invitation_event_id", "scope", "space_id", "channel_id", "inviter_slug", "invitee_slug", "space_name",
          "channel_name")


def invites(person: Person, args: argparse.Namespace) -> Any:
    return [{k: i.get(k) for k in INVITE} for i in person.client.invites("sent" if args.sent else "received")]


def answer_invites(person: Person, args: argparse.Namespace) -> Any:
    """accept, reject, cancel"""
    found = person.client.invites("sent" if args.command == "cancel" else "received")
    chosen = [i for i in found if args.invite == "all" or i["invitation_event_id"] == args.invite]
    if args.invite != "all" and not chosen:
        raise ClientError(f"no such invite: {args.invite}")
    for one in chosen:
        person.client.answer_invite(one, args.command)
    return [{k: i.get(k) for k in INVITE} for i in chosen]


def leave(person: Person, args: argparse.Namespace) -> Any:
    from puffo.crypto import now_ms
    channel = {"channel_id": args.channel} if args.channel else {}
    person.client.post_event("leave_channel" if channel else "leave_space", space_id=args.space, **channel,
                             effective_from=now_ms())
    return {"left": args.channel or args.space}


def send(person: Person, args: argparse.Namespace) -> Any:
    text = sys.stdin.read() if args.text == "-" else args.text
    if args.to:
        route = {"recipient_slug": args.to}
    elif args.channel:
        route = dict(zip(("space_id", "channel_id"), args.channel))
    else:
        root = person.seen.get(args.thread or args.reply_to)
        if not root or "error" in root:
            raise ClientError("--to or --channel is missing (without them the thread must be one that was read)")
        route = {k: root[k] for k in ("space_id", "channel_id")}
        if root["envelope_kind"] == "dm":
            other = root["recipient_slug"] if root["sender_slug"] == person.client.slug else root["sender_slug"]
            route = {"recipient_slug": other}
    return person.client.send_message(text, args.file, thread_root_id=args.thread, reply_to_id=args.reply_to, **route)


def read(person: Person, args: argparse.Namespace) -> Any:
    found = person.read(args.wait, args.count)
    if args.wait and len(found) < args.count:
        emit(person, found)
        raise ClientError(f"{len(found)} messages in {args.wait:g} s, not {args.count}")
    return found


def history(person: Person, args: argparse.Namespace) -> Any:
    found = [m for m in person.messages() if "error" not in m]
    if args.thread:
        found = [m for m in found if args.thread in (m["envelope_id"], m["thread_root_id"])]
    if args.channel:
        found = [m for m in found if m["channel_id"] == args.channel]
    if args.peer:
        found = [m for m in found if m["envelope_kind"] == "dm"
                 and args.peer in (m["sender_slug"], m["recipient_slug"])]
    return found


def save(person: Person, args: argparse.Namespace) -> Any:
    message = person.seen.get(args.message)
    if not message or "error" in message:
        raise ClientError(f"no such message was read: {args.message}")
    args.directory.mkdir(parents=True, exist_ok=True)
    saved = []
    for meta in message["attachments"]:
        data = person.client.download(meta)
        path = args.directory / envelope.safe_name(str(meta["filename"]), str(meta["blob_id"]))
        path.write_bytes(data)
        saved.append({"path": str(path), "size": len(data), "mime_type": meta["mime_type"]})
    return saved


def profile(person: Person, args: argparse.Namespace) -> Any:
    slug = args.slug_shown or person.client.slug
    found = person.client.call("GET", f"/identities/profiles?slugs={slug}").get("profiles") or []
    if not found:
        raise ClientError(f"no such user: {slug}")
    return {k: found[0].get(k) for k in ("slug", "display_name", "owner_slug", "bio")}


def status(person: Person, args: argparse.Namespace) -> Any:
    return person.client.call("GET", f"/agents/{args.agent}/status")


def rotate(person: Person, args: argparse.Namespace) -> Any:
    return {"subkey_id": person.client.rotate().subkey_id}


def add_device(person: Person, args: argparse.Namespace) -> Any:
    identity = person.client.add_device(args.keys)
    return {"device_id": identity.device_id, "keys": str(args.keys / f"{identity.slug}.json")}


def revoke(person: Person, args: argparse.Namespace) -> Any:
    person.client.revoke_device(args.device)
    return {"revoked": args.device}


def call(person: Person, args: argparse.Namespace) -> Any:
    body = parse_object(args.body) if args.body else None
    return person.client.call(args.method, args.target, body)


# --- output ---

def line_of(thing: dict[str, Any]) -> str:
    if "error" in thing and "envelope_id" in thing:
        return f"{thing['envelope_id']}\terror: {thing['error']}"
    if "text" in thing and "sender_slug" in thing:
        where = thing["channel_id"] or "dm"
        thread = f"\tthread {thing['thread_root_id']}" if thing["thread_root_id"] else ""
        files = "".join(f"\tfile {m.get('filename')}" for m in thing["attachments"])
        mark = "" if thing["encrypted"] else "\tnot encrypted"
        text = str(thing["text"]).replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")
        return f"{thing['envelope_id']}\t{where}\t{thing['sender_slug']}\t{text}{thread}{files}{mark}"
    return "\t".join("-" if v is None else str(v).lower() if isinstance(v, bool) else str(v) for v in thing.values())


def emit(person: Person, result: Any) -> None:
    if person.args.json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for thing in result if isinstance(result, list) else [result]:
        print(line_of(thing))
    sys.stdout.flush()


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="puffo-human", formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description=__doc__)
    parser.add_argument("--state", required=True, type=pathlib.Path, metavar="DIR")
    parser.add_argument("--server", metavar="URL", help="after register: the one registered with, if not given")
    parser.add_argument("--ca", type=pathlib.Path, metavar="FILE", help="the certificate authority to trust")
    parser.add_argument("--as", dest="slug", metavar="SLUG", help="if several identities are in DIR/keys")
    parser.add_argument("--json", action="store_true")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str, *positional: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        for one in positional:
            sub.add_argument(one)
        sub.set_defaults(run=run)
        return sub

    sub = command("register", register, "signs up: prints slug and device", "username")
    sub.add_argument("--display-name")
    sub.add_argument("--invite-code", default="test")
    command("whoami", whoami, "slug, device, server")
    sub = command("create-agent", create_agent, "registers an agent of this person's, and writes its key file",
                  "username")
    sub.add_argument("--keys", type=pathlib.Path, required=True, metavar="DIR", help="where SLUG.json goes")
    command("create-space", create_space, "prints the ids of the space and its default channel", "name")
    command("spaces", spaces, "id and name")
    sub = command("create-channel", create_channel, "prints its id", "space", "name")
    sub.add_argument("--public", action="store_true")
    command("channels", channels, "id, name, public", "space")
    command("members", members, "slug, role, type, online", "space", "channel")
    sub = command("invite", invite, "to a space, or to a channel in it", "slug_invited", "space")
    sub.add_argument("channel", nargs="?")
    sub = command("invites", invites, "pending ones")
    sub.add_argument("--sent", action="store_true")
    for verb in ("accept", "reject", "cancel"):
        command(verb, answer_invites, f"{verb}s an invite, by its id, or all", "invite")
    sub = command("leave", leave, "a space, or a channel in it", "space")
    sub.add_argument("channel", nargs="?")
    sub = command("send", send, "sends TEXT (- is stdin)", "text")
    where = sub.add_mutually_exclusive_group()
    where.add_argument("--to", metavar="SLUG")
    where.add_argument("--channel", nargs=2, metavar=("SPACE", "CHANNEL"))
    sub.add_argument("--thread", metavar="MESSAGE", help="the first message of the thread")
    sub.add_argument("--reply-to", metavar="MESSAGE")
    sub.add_argument("--file", type=pathlib.Path, action="append", default=[], help="attaches it; can be repeated")
    sub = command("read", read, "prints what is new from others")
    sub.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="for --count messages, on the stream")
    sub.add_argument("--count", type=int, default=1)
    sub = command("history", history, "prints what was read, and one's own copies")
    sub.add_argument("--thread", metavar="MESSAGE")
    sub.add_argument("--channel", metavar="CHANNEL")
    sub.add_argument("--peer", metavar="SLUG")
    sub = command("save", save, "downloads the attachments of a message that was read: path, size, type", "message")
    sub.add_argument("directory", type=pathlib.Path)
    command("profile", profile, "slug, name, owner, bio").add_argument("slug_shown", nargs="?", metavar="slug")
    command("status", status, "what an agent reported", "agent")
    command("rotate", rotate, "a new subkey")
    sub = command("add-device", add_device, "a second device of one's own, whose key file is written")
    sub.add_argument("--keys", type=pathlib.Path, required=True, metavar="DIR", help="where SLUG.json goes")
    command("revoke", revoke, "a device of one's own", "device")
    command("call", call, "any signed request", "method", "target").add_argument("body", nargs="?")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    try:
        args.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        person = Person(args)
        emit(person, args.run(person, args))
    except (ClientError, CryptoError, OSError) as e:
        sys.exit(f"puffo-human: {e}")
    except (KeyError, TypeError) as e:
        sys.exit(f"puffo-human: the server's answer lacks something: {e}")
