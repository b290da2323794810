# SPDX-License-Identifier: MIT
"""Signed events of spaces: their members, who may sign which, and what they change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Callable

from puffo.base import bad, conflict, forbidden, id_of, integer_of, new_id, not_found, text_of
from puffo.crypto import CryptoError, random_b64, unb64, verify_json

if TYPE_CHECKING:
    from puffo.server import Server

Event = dict[str, Any]

# The members of each kind's payload; all are required, and others are refused.
_CHANNEL = ("space_id", "channel_id")
PAYLOADS: dict[str, tuple[str, ...]] = {
    "create_space": ("space_id", "name", "created_at", "nonce"),
    "create_channel": (*_CHANNEL, "name", "created_at", "nonce"),
    "invite_to_space": ("space_id", "invitee_slug", "issued_at", "nonce"),
    "invite_to_channel": (*_CHANNEL, "invitee_slug", "issued_at", "nonce"),
    "accept_space_invite": ("space_id", "invitation_event_id", "accepted_at", "nonce"),
    "accept_channel_invite": (*_CHANNEL, "invitation_event_id", "accepted_at", "nonce"),
    "reject_space_invite": ("space_id", "invitation_event_id", "rejected_at", "nonce"),
    "reject_channel_invite": (*_CHANNEL, "invitation_event_id", "rejected_at", "nonce"),
    "cancel_space_invite": ("space_id", "invitation_event_id", "cancelled_at", "nonce"),
    "cancel_channel_invite": (*_CHANNEL, "invitation_event_id", "cancelled_at", "nonce"),
    "leave_space": ("space_id", "effective_from", "nonce"),
    "leave_channel": (*_CHANNEL, "effective_from", "nonce"),
    "remove_from_space": ("space_id", "removed_slug", "effective_from", "nonce"),
    "remove_from_channel": (*_CHANNEL, "removed_slug", "effective_from", "nonce"),
    "update_role": ("space_id", "target_slug", "new_role", "issued_at", "nonce"),
    "transfer_space_ownership": ("space_id", "new_owner_slug", "issued_at", "nonce"),
}
TIMES = ("created_at", "issued_at", "accepted_at", "rejected_at", "cancelled_at", "effective_from")


def payload_check(kind: Any, payload: Any) -> dict[str, Any]:
    if not isinstance(kind, str) or kind not in PAYLOADS:
        raise bad(f"unknown event kind {kind!r}")
    if not isinstance(payload, dict):
        raise bad("payload must be an object")
    optional = {"is_public"} if kind == "create_channel" else set()
    unknown = set(payload) - set(PAYLOADS[kind]) - optional
    if unknown:
        raise bad(f"unknown payload member {sorted(unknown)[0]}")
    for name in PAYLOADS[kind]:
        if name in TIMES:
            integer_of(payload, name)
        else:
            text_of(payload, name, 200)
    try:
        if len(unb64(payload["nonce"])) != 32:
            raise bad("nonce must be 32 bytes")
    except CryptoError:
        raise bad("nonce must be base64url") from None
    if not isinstance(payload.get("is_public", False), bool):
        raise bad("is_public must be a boolean")
    return payload


class Batch:
    """The events of one call: applied in one transaction, told to the streams afterwards."""

    def __init__(self, server: Server, slug: str, device_id: str):
        self.server, self.store, self.slug, self.device_id = server, server.store, slug, device_id
        self.emitted: list[Event] = []
        self.made: list[tuple[Event, set[str]]] = []
        self.told: list[tuple[Event, set[str]]] = []

    # --- checking ---

    def check(self, event: Any, space_id: str) -> Event:
        if not isinstance(event, dict) or event.get("type") != "signed_event" or event.get("version") != 1:
            raise bad("not a signed_event of version 1")
        for name in ("signer_slug", "signer_device_id", "signer_subkey_id", "signature"):
            text_of(event, name)
        id_of(event, "event_id", "ev")
        payload = payload_check(event.get("kind"), event.get("payload"))
        if payload["space_id"] != space_id:
            raise bad("an event of another space")
        if event["signer_slug"] != self.slug or event["signer_device_id"] != self.device_id:
            raise forbidden("the event's signer is not the request's")
        subkey = self.store.one("SELECT * FROM subkeys WHERE subkey_id = ?", event["signer_subkey_id"])
        if not subkey or subkey["slug"] != self.slug or subkey["device_id"] != self.device_id or \
                subkey["expires_at"] <= self.server.now():
            raise bad("signer_subkey_id is not a valid subkey of the signer", "INVALID_SIGNATURE")
        try:
            good = verify_json(unb64(subkey["public_key"]), unb64(event["signature"]), event)
        except CryptoError:
            good = False
        if not good:
            raise bad("the event's signature does not verify", "INVALID_SIGNATURE")
        if self.store.one("SELECT 1 FROM events WHERE event_id = ?", event["event_id"]):
            raise conflict("this event was applied already")
        return event

    # --- applying ---

    def apply(self, event: Event) -> None:
        payload = event["payload"]
        before = set(self.store.space_slugs(payload["space_id"]))
        self.made = []
        APPLY[event["kind"]](self, event, payload)
        self.append(event, before)
        for made, audience in self.made:
            self.append(made, audience)
            self.emitted.append(made)

    def append(self, event: Event, audience: set[str]) -> None:
        payload = event["payload"]
        issued_at = next(payload[t] for t in TIMES if t in payload)
        self.store.run("INSERT INTO events (event_id, space_id, issued_at, signer_slug, event) VALUES (?, ?, ?, ?, ?)",
                       event["event_id"], payload["space_id"], issued_at, event["signer_slug"], json.dumps(event))
        audience = audience | set(self.store.space_slugs(payload["space_id"]))
        if event["kind"] == "invite_to_channel":
            audience.add(payload["invitee_slug"])
        self.told.append((event, audience))

    def emit(self, kind: str, marker: str, signer_slug: str, payload: dict[str, Any]) -> None:
        """An event of the server's own, which follows in the log; a marker stands in place of a signature."""
        event = {"type": "signed_event", "version": 1, "event_id": new_id("ev"), "kind": kind,
                 "payload": {**payload, "nonce": random_b64(32)}, "signer_slug": signer_slug, "signer_device_id": "",
                 "signer_subkey_id": "", "signature": f"server-auto:{marker}"}
        self.made.append((event, set(self.store.space_slugs(payload["space_id"]))))

    # --- what the kinds need ---

    def need_space(self, space_id: str, *roles: str) -> None:
        if not self.store.one("SELECT 1 FROM spaces WHERE space_id = ?", space_id):
            raise not_found("space not found")
        role = self.store.space_role(space_id, self.slug)
        if role is None or roles and role not in roles:
            raise forbidden(f"only for {' or '.join(roles) if roles else 'members'} of the space")

    def need_channel(self, payload: dict[str, Any]) -> Any:
        channel = self.store.channel(payload["space_id"], payload["channel_id"])
        if not channel:
            raise not_found("channel not found")
        return channel

    def join_space(self, space_id: str, slug: str, role: str = "member") -> None:
        self.store.run("INSERT OR IGNORE INTO space_members (space_id, slug, role, joined_at) VALUES (?, ?, ?, ?)",
                       space_id, slug, role, self.server.now())
        for channel_id in self.store.column("SELECT channel_id FROM channels WHERE space_id = ? AND is_public",
                                            space_id):
            self.join_channel(channel_id, slug)

    def join_channel(self, channel_id: str, slug: str, role: str = "member") -> None:
        self.store.run("INSERT OR IGNORE INTO channel_members VALUES (?, ?, ?)", channel_id, slug, role)

    def leave_space(self, space_id: str, slug: str) -> None:
        self.store.run("DELETE FROM space_members WHERE space_id = ? AND slug = ?", space_id, slug)
        self.store.run("DELETE FROM channel_members WHERE slug = ? AND channel_id IN"
                       " (SELECT channel_id FROM channels WHERE space_id = ?)", slug, space_id)
        for agent in self.store.column("SELECT slug FROM accounts JOIN space_members USING (slug)"
                                       " WHERE operator_slug = ? AND space_id = ?", slug, space_id):
            self.emit("leave_space", "agent-cascade-leave-space", agent,
                      {"space_id": space_id, "effective_from": self.server.now()})
            self.leave_space(space_id, agent)


def _create_space(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    space_id = id_of(payload, "space_id", "sp")
    if batch.store.one("SELECT 1 FROM spaces WHERE space_id = ?", space_id):
        raise conflict("this space exists already")
    batch.store.run("INSERT INTO spaces VALUES (?, ?, ?)", space_id, payload["name"], payload["created_at"])
    batch.join_space(space_id, batch.slug, "owner")
    channel_id = new_id("ch")
    batch.store.run("INSERT INTO channels VALUES (?, ?, 'General', 1, ?, ?)", channel_id, space_id,
                    payload["created_at"], batch.slug)
    batch.join_channel(channel_id, batch.slug, "owner")
    batch.emit("create_channel", "create-default-channel", batch.slug,
               {"space_id": space_id, "channel_id": channel_id, "name": "General", "is_public": True,
                "created_at": payload["created_at"]})


def _create_channel(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    batch.need_space(payload["space_id"])
    channel_id = id_of(payload, "channel_id", "ch")
    if batch.store.one("SELECT 1 FROM channels WHERE channel_id = ?", channel_id):
        raise conflict("this channel exists already")
    public = payload.get("is_public", False)
    batch.store.run("INSERT INTO channels VALUES (?, ?, ?, ?, ?, ?)", channel_id, payload["space_id"], payload["name"],
                    int(public), payload["created_at"], batch.slug)
    batch.join_channel(channel_id, batch.slug, "owner")
    if public:
        for slug in batch.store.space_slugs(payload["space_id"]):
            batch.join_channel(channel_id, slug)


def _invite(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    store, space_id, invitee = batch.store, payload["space_id"], payload["invitee_slug"]
    batch.need_space(space_id)
    scope, channel = "space", None
    role = store.space_role(space_id, invitee)
    if event["kind"] == "invite_to_channel":
        scope, channel = "channel", batch.need_channel(payload)
        if not store.channel_role(payload["channel_id"], batch.slug):
            raise forbidden("only for members of the channel")
        role = store.channel_role(payload["channel_id"], invitee)
    if not store.account(invitee):
        raise not_found("no such user")
    if role:
        raise conflict("the invitee is a member already")
    if store.one("SELECT 1 FROM invites WHERE invitee_slug = ? AND space_id = ? AND channel_id IS ?", invitee,
                 space_id, payload.get("channel_id")):
        raise conflict("the invitee is invited already")
    space = store.one("SELECT name FROM spaces WHERE space_id = ?", space_id)
    store.run("INSERT INTO invites VALUES (?, ?, ?, ?, ?, ?, ?, ?)", event["event_id"], scope, space_id,
              payload.get("channel_id"), batch.slug, invitee, space["name"], channel["name"] if channel else None)
    _accept_owner_invite(batch, event, invitee)


def _accept_owner_invite(batch: Batch, event: Event, invitee: str) -> None:
    """A member's setting: the server answers the operator's channel invites itself."""
    payload, account = event["payload"], batch.store.account(invitee)
    row = batch.store.one("SELECT auto_accept_owner_invite FROM space_members WHERE space_id = ? AND slug = ?",
                          payload["space_id"], invitee)
    if event["kind"] != "invite_to_channel" or account["operator_slug"] != batch.slug or not row or not row[0]:
        return
    batch.store.run("DELETE FROM invites WHERE event_id = ?", event["event_id"])
    batch.join_channel(payload["channel_id"], invitee)
    batch.emit("accept_channel_invite", "auto-accept-owner-invite", invitee,
               {"space_id": payload["space_id"], "channel_id": payload["channel_id"],
                "invitation_event_id": event["event_id"], "accepted_at": batch.server.now()})


def _answer(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    """Accepting, rejecting and cancelling take the invite away."""
    verb, _, rest = event["kind"].partition("_")
    scope = rest.partition("_")[0]
    invite = batch.store.one("SELECT * FROM invites WHERE event_id = ?", payload["invitation_event_id"])
    if not invite:
        raise conflict("no such pending invite: it was answered or cancelled")
    if invite["scope"] != scope or invite["space_id"] != payload["space_id"] or \
            invite["channel_id"] != payload.get("channel_id"):
        raise bad("the invite is for another target")
    if verb == "cancel":
        if invite["inviter_slug"] != batch.slug:
            batch.need_space(payload["space_id"], "owner", "admin")
    elif invite["invitee_slug"] != batch.slug:
        raise forbidden("the invite is for somebody else")
    batch.store.run("DELETE FROM invites WHERE event_id = ?", invite["event_id"])
    if verb == "accept":
        batch.join_space(payload["space_id"], batch.slug)
        if scope == "channel":
            batch.join_channel(payload["channel_id"], batch.slug)


def _leave_space(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    batch.need_space(payload["space_id"], "admin", "member")
    batch.leave_space(payload["space_id"], batch.slug)


def _leave_channel(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    batch.need_channel(payload)
    if not batch.store.channel_role(payload["channel_id"], batch.slug):
        raise forbidden("only for members of the channel")
    batch.store.run("DELETE FROM channel_members WHERE channel_id = ? AND slug = ?", payload["channel_id"], batch.slug)


def _remove_from_space(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    batch.need_space(payload["space_id"], "owner", "admin")
    role = batch.store.space_role(payload["space_id"], payload["removed_slug"])
    if role is None:
        raise not_found("not a member")
    if role == "owner":
        raise forbidden("the owner cannot be removed")
    batch.leave_space(payload["space_id"], payload["removed_slug"])


def _remove_from_channel(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    channel = batch.need_channel(payload)
    if channel["owner_slug"] != batch.slug:
        batch.need_space(payload["space_id"], "owner", "admin")
    if not batch.store.channel_role(payload["channel_id"], payload["removed_slug"]):
        raise not_found("not a member")
    batch.store.run("DELETE FROM channel_members WHERE channel_id = ? AND slug = ?", payload["channel_id"],
                    payload["removed_slug"])


def _set_role(batch: Batch, space_id: str, slug: str, role: str) -> None:
    batch.need_space(space_id, "owner")
    if batch.store.space_role(space_id, slug) is None:
        raise not_found("not a member")
    batch.store.run("UPDATE space_members SET role = ? WHERE space_id = ? AND slug = ?", role, space_id, slug)


def _update_role(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    if payload["new_role"] not in ("admin", "member"):
        raise bad("new_role must be admin or member")
    if payload["target_slug"] == batch.slug:
        raise forbidden("the owner's role goes by transfer_space_ownership")
    _set_role(batch, payload["space_id"], payload["target_slug"], payload["new_role"])


def _transfer(batch: Batch, event: Event, payload: dict[str, Any]) -> None:
    _set_role(batch, payload["space_id"], payload["new_owner_slug"], "owner")
    if payload["new_owner_slug"] != batch.slug:
        batch.store.run("UPDATE space_members SET role = 'admin' WHERE space_id = ? AND slug = ?",
                        payload["space_id"], batch.slug)


APPLY: dict[str, Callable[[Batch, Event, dict[str, Any]], None]] = {
    "create_space": _create_space,
    "create_channel": _create_channel,
    "invite_to_space": _invite,
    "invite_to_channel": _invite,
    **{f"{verb}_{scope}_invite": _answer for verb in ("accept", "reject", "cancel") for scope in ("space", "channel")},
    "leave_space": _leave_space,
    "leave_channel": _leave_channel,
    "remove_from_space": _remove_from_space,
    "remove_from_channel": _remove_from_channel,
    "update_role": _update_role,
    "transfer_space_ownership": _transfer,
}
