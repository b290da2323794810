# SPDX-License-Identifier: MIT
"""Spaces, channels, members, invites and the event log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from puffo.base import Reply, Request, bad, forbidden, html_page, list_of, not_found, paged, route, text_of
from puffo.events import Batch

if TYPE_CHECKING:
    from puffo.server import Server


def _member(server: Server, request: Request, space_id: str) -> None:
    if not server.store.one("SELECT 1 FROM spaces WHERE space_id = ?", space_id):
        raise not_found("space not found")
    if server.store.space_role(space_id, request.slug) is None:
        raise forbidden("only for members of the space")


@route("GET", "/spaces")
async def spaces(server: Server, request: Request) -> dict[str, Any]:
    rows = server.store.all("SELECT space_id, name, joined_at FROM space_members JOIN spaces USING (space_id)"
                            " WHERE slug = ? ORDER BY joined_at, space_id", request.slug)
    return {"spaces": [{"space_id": r["space_id"], "name": r["name"], "description": None, "avatar_url": None,
                        "joined_at": r["joined_at"], "archived_at": None} for r in rows]}


@route("POST", "/spaces/events")
async def post_events(server: Server, request: Request) -> dict[str, Any]:
    body = request.json()
    space_id, events = text_of(body, "space_id"), list_of(body, "events", dict, 100)
    if not events:
        raise bad("events is empty")
    assert request.signer is not None
    batch = Batch(server, request.signer.slug, request.signer.device_id)
    with server.store.transaction():
        for event in events:
            batch.apply(batch.check(event, space_id))
    for event, audience in batch.told:
        server.push(audience, {"type": "event", "scope": space_id, "event": event})
        if server.settings.later and event["kind"] not in ("invite_to_space", "invite_to_channel"):
            server.push(audience, {"type": "space_membership_changed", "space_id": space_id})
    return {"ok": True, "applied": len(events), "server_emitted_events": batch.emitted}


@route("GET", "/spaces/{space}/events")
async def space_events(server: Server, request: Request, space_id: str) -> dict[str, Any]:
    _member(server, request, space_id)
    limit = request.number("limit", server.settings.events_page, 1, server.settings.events_page)
    after = 0
    since = "" if "has_more_stuck" in request.faults else request.query.get("since", "")
    if since:
        row = server.store.one("SELECT seq FROM events WHERE event_id = ? AND space_id = ?", since.rpartition(":")[2],
                               space_id)
        if not row:
            raise bad("since is not a cursor of this space")
        after = row["seq"]
    rows = server.store.all("SELECT * FROM events WHERE space_id = ? AND seq > ? ORDER BY seq LIMIT ?", space_id,
                            after, limit + 1)
    more, rows = len(rows) > limit, rows[:limit]
    last = rows[-1] if rows else None
    return paged(request, {
        "events": [json.loads(r["event"]) for r in rows], "has_more": more,
        "next_cursor": f"{last['issued_at']}:{last['signer_slug']}:{last['event_id']}" if last else None}, "events")


@route("GET", "/spaces/{space}/members", later=True)
async def space_members(server: Server, request: Request, space_id: str) -> dict[str, Any]:
    _member(server, request, space_id)
    rows = server.store.all("SELECT m.role AS member_role, a.* FROM space_members m JOIN accounts a USING (slug)"
                            " WHERE space_id = ? ORDER BY joined_at, slug", space_id)
    return {"members": [{"slug": r["slug"], "role": r["member_role"], "identity_type": r["identity_type"],
                         "owner_slug": r["operator_slug"], "online": server.is_online(r["slug"])} for r in rows]}


SETTINGS = ("auto_accept_owner_invite", "auto_accept_member_invite")


@route("GET", "/spaces/{space}/members/me/settings", later=True)
async def member_settings(server: Server, request: Request, space_id: str) -> dict[str, Any]:
    _member(server, request, space_id)
    row = server.store.one("SELECT * FROM space_members WHERE space_id = ? AND slug = ?", space_id, request.slug)
    assert row is not None
    return {name: bool(row[name]) for name in SETTINGS}


@route("PATCH", "/spaces/{space}/members/me/settings", later=True)
async def change_member_settings(server: Server, request: Request, space_id: str) -> dict[str, Any]:
    _member(server, request, space_id)
    body = request.json()
    if any(k not in SETTINGS or not isinstance(v, bool) for k, v in body.items()):
        raise bad(f"the settings are {', '.join(SETTINGS)}, true or false")
    if "auto_accept_member_invite" in body and server.account_of(request)["identity_type"] == "agent":
        raise forbidden("an agent may change auto_accept_owner_invite only")
    for name, value in body.items():
        server.store.run(f"UPDATE space_members SET {name} = ? WHERE space_id = ? AND slug = ?", int(value), space_id,
                         request.slug)
    return await member_settings(server, request, space_id)


@route("GET", "/spaces/{space}/channels")
async def channels(server: Server, request: Request, space_id: str) -> Reply | dict[str, Any]:
    if server.store.space_role(space_id, request.slug) is None:
        return html_page()
    rows = server.store.all("SELECT c.* FROM channels c JOIN channel_members m USING (channel_id)"
                            " WHERE space_id = ? AND slug = ? ORDER BY c.created_at, c.rowid", space_id, request.slug)
    return {"channels": [{"channel_id": r["channel_id"], "name": r["name"], "description": None,
                          "is_public": bool(r["is_public"]),
                          "is_encrypted": r["channel_id"] not in server.settings.plaintext_channels,
                          "created_at": r["created_at"], "owner_slug": r["owner_slug"]} for r in rows]}


@route("GET", "/spaces/{space}/channels/{channel}/members")
async def channel_members(server: Server, request: Request, space_id: str, channel_id: str) -> dict[str, Any]:
    if not server.store.channel(space_id, channel_id):
        raise not_found("channel not found")
    if not server.store.channel_role(channel_id, request.slug):
        raise forbidden("only for members of the channel")
    rows = server.store.all("SELECT m.slug, m.role, a.display_name, a.identity_type, a.operator_slug"
                            " FROM channel_members m JOIN accounts a USING (slug) WHERE channel_id = ?"
                            " ORDER BY m.rowid", channel_id)
    return {"members": [{"slug": r["slug"], "role": r["role"], "display_name": r["display_name"],
                         "identity_type": r["identity_type"], "owner_slug": r["operator_slug"],
                         "online": server.is_online(r["slug"])} for r in rows]}


@route("GET", "/invites")
async def invites(server: Server, request: Request) -> dict[str, Any]:
    direction = request.query.get("direction", "received")
    if direction not in ("received", "sent"):
        raise bad("direction must be received or sent")
    column = "invitee_slug" if direction == "received" else "inviter_slug"
    rows = server.store.all(f"SELECT i.*, e.event FROM invites i JOIN events e USING (event_id) WHERE {column} = ?"
                            " ORDER BY e.seq", request.slug)
    return {"invites": [{
        **{k: r[k] for k in ("scope", "space_id", "channel_id", "inviter_slug", "invitee_slug", "space_name",
                             "channel_name")},
        "invitation_event_id": r["event_id"], "invitation_event": json.loads(r["event"])} for r in rows]}
