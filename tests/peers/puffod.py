#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A stand-in for puffod on the session bus: three agents that answer as the text of the turn asks them to.

    puffod.py FILE [--system]

Needs python3-dbus and python3-gi. FILE gets one line for each call of interest, and "blocked" when the reader of an
event stream does not read. Directives in a turn's text:

    [[words: N]]      N words, each followed by     [[fat: N]]      so many bytes
    [[slow: ms]]      between words                 [[hang]]        nothing after the first word
    [[two]]           two messages                  [[fail]]        the turn fails after the first word
    [[crash]]         after the first word the stream ends as when the session dies; the turn begins again
    [[ahead]]         waits in the queue first      [[late: ms]]    Submit is answered late
    [[queue-full]], [[not-ready]], [[main-only]]    Submit is refused
    [[gone]]          OpenStream finds no stream

Hiring "late" takes long, "removed" is gone before anybody hears of it, "masked" and "slow" are
errors of the bus itself, and over "crash" this program dies. $AGENTS is
what else is there from the start, and GetManagedObjects takes $SLOW_LIST ms.
"""

import json
import os
import re
import sys
import time

import dbus
import dbus.mainloop.glib
import dbus.service
from gi.repository import GLib

NAME, ROOT = "ai.puffo.Agents1", "/ai/puffo/Agents1"
AGENT, MANAGER = NAME + ".Agent", NAME + ".Manager"
ERROR = NAME + ".Error."


def log(*words):
    with open(sys.argv[1], "a") as f:
        print(*words, file=f, flush=True)


def error(name, text="no such thing"):
    return dbus.exceptions.DBusException(text, name=ERROR + name)


class Turn:
    def __init__(self, agent, id, options):
        self.agent, self.id, self.options = agent, id, options
        self.text = str(options.get("Text", ""))
        self.status, self.log, self.pipes, self.messages = "queued", [], [], []
        self.usage, self.error, self.reason = None, None, ""
        self.created = time.time_ns() // 1000
        self.crashes = 1 if "[[crash]]" in self.text else 0
        self.cut = None
        self.emit("queued", ahead=1 if "[[ahead]]" in self.text else 0)
        if "[[ahead]]" in self.text:
            GLib.timeout_add(700, self.start)
        else:
            self.start()

    def number(self, name, default):
        found = re.search(r"\[\[%s: (\d+)" % name, self.text)
        return int(found[1]) if found else default

    def emit(self, type, **members):
        line = json.dumps({"seq": len(self.log), "type": type, **members}, ensure_ascii=False) + "\n"
        self.log.append(line)
        for pipe in self.pipes:
            self.write(pipe, line)

    def write(self, pipe, line):
        data = line.encode()
        try:
            os.set_blocking(pipe, False)
            try:
                data = data[os.write(pipe, data):]
            except BlockingIOError:
                pass
            os.set_blocking(pipe, True)
            if data:
                log("blocked", self.id)
                os.write(pipe, data)
        except BrokenPipeError:
            pass

    def open(self):
        read, write = os.pipe()
        for line in self.log:
            self.write(write, line)
        if self.ended():
            os.close(write)
        else:
            self.pipes.append(write)
        return read

    def close(self):
        for pipe in self.pipes:
            os.close(pipe)
        self.pipes = []

    def ended(self):
        return self.status not in ("queued", "running")

    def start(self, again=False):
        if self.ended():
            return False
        self.status = "running"
        if again:
            self.log = []
            self.emit("queued", ahead=0, resumed=True)
            self.emit("restarted")
        self.emit("started")
        self.todo = ["one", "two"] if "[[two]]" in self.text else ["one"]
        GLib.timeout_add(5, self.next_message)
        return False

    def next_message(self):
        if self.ended():
            return False
        if not self.todo:
            self.finish("completed")
            return False
        self.item = f"{self.todo.pop(0)}{len(self.log)}-{self.crashes}"
        self.emit("message_started", item=self.item)
        n = self.number("words", 0)
        fat = self.number("fat", 0) * "x"
        self.words = [f"wörd{i}{fat} " for i in range(n)] if n else ["Hello ", "to ", "you."]
        if '"type":"object"' in str(self.options.get("Instructions", "")):
            self.words = ['{"answer":', ' "yes"}']
        self.shown = ""
        GLib.timeout_add(self.number("slow", 1), self.next_word)
        return False

    def next_word(self):
        if self.ended():
            return False
        if self.shown and self.crashes:
            self.crashes -= 1
            self.close()
            GLib.timeout_add(300, self.start, True)
            return False
        if self.shown and "[[hang]]" in self.text:
            return False
        if self.shown and "[[fail]]" in self.text:
            self.error = ("rate_limit_exceeded", "the provider has had enough")
            self.finish("failed")
            return False
        if self.words:
            word = self.words.pop(0)
            self.shown += word
            self.emit("delta", item=self.item, text=word)
            return True
        self.emit("message_done", item=self.item, text=self.shown, status="completed")
        self.messages.append((self.item, self.shown, "completed"))
        self.next_message()
        return False

    def finish(self, status, reason=""):
        self.usage = {"input_tokens": 11, "cached_tokens": 3, "cache_write_tokens": 0, "output_tokens": 2,
                      "reasoning_tokens": 0}
        self.status, self.reason, self.ended_at = status, reason, time.time_ns() // 1000
        end = {"usage": self.usage, "ended_at": self.ended_at}
        if status == "completed":
            self.emit("completed", **end)
        elif status == "failed":
            self.emit("failed", error={"code": self.error[0], "kind": "x", "message": self.error[1]}, **end)
        else:
            self.emit("incomplete", reason="interrupted", **end)
        self.close()


class Agent(dbus.service.Object):
    def __init__(self, bus, id, role, name):
        self.path = f"{ROOT}/agent/{id.replace('_', '_5f')}"
        super().__init__(bus, self.path)
        self.id, self.turns = id, {}
        self.properties = dbus.Dictionary({
            "Id": id, "Role": role, "Name": name, "State": "ready", "Status": "idle", "StatusText": "",
            "MainPID": dbus.UInt32(4242),
            "Workspace": f"/home/x/{id}", "CreatedAt": dbus.UInt64(1795226603000000),
            "Owner": dbus.UInt32(os.getuid()), "QueueLength": dbus.UInt32(0)}, signature="sv")

    @dbus.service.method("org.freedesktop.DBus.Properties", in_signature="s", out_signature="a{sv}")
    def GetAll(self, interface):
        log("GetAll", self.id)
        return self.properties

    @dbus.service.signal("org.freedesktop.DBus.Properties", signature="sa{sv}as")
    def PropertiesChanged(self, interface, changed, invalidated):
        pass

    @dbus.service.method("x.Test", in_signature="a{sv}")
    def Change(self, values):
        """Says that something is another now, but not what it is."""
        for name, value in values.items():
            self.properties[name] = value
            self.PropertiesChanged(AGENT, {}, [name])

    @dbus.service.method("x.Test", in_signature="a{sv}")
    def ChangeTo(self, values):
        self.properties.update(values)
        self.PropertiesChanged(AGENT, values, [])

    @dbus.service.method(AGENT, in_signature="sa{sv}", out_signature="h", async_callbacks=("reply", "fail"))
    def Submit(self, id, turn, reply, fail):
        log("Submit", self.id, id, json.dumps({k: str(v) for k, v in turn.items() if k not in ("Document", "Files")}))
        for name, type, use, fd in turn.get("Files", []):
            with os.fdopen(fd.take(), "rb") as f:
                f.seek(0)
                log("File", name, type, use, f.read().hex())
        text = str(turn.get("Text", ""))
        for word, name in [("queue-full", "QueueFull"), ("not-ready", "NotReady")]:
            if f"[[{word}]]" in text:
                return fail(error(name, "the agent says " + word))
        if "[[main-only]]" in text:
            return fail(dbus.exceptions.DBusException("It has one conversation only.",
                                                      name="org.freedesktop.DBus.Error.NotSupported"))
        if "Previous" in turn:
            if turn["Previous"] not in self.turns:
                return fail(error("NoSuchTurn"))
            if not self.turns[turn["Previous"]].ended():
                return fail(error("TurnRunning"))
        late = re.search(r"\[\[late: (\d+)", text)
        if late and id not in self.turns:
            GLib.timeout_add(int(late[1]), self.answer, id, turn, reply)
            return None
        return self.answer(id, turn, reply)

    def answer(self, id, turn, reply):
        if id not in self.turns:
            self.turns[id] = Turn(self, id, turn)
        log("Submitted", self.id, id)
        fd = self.turns[id].open()
        reply(dbus.types.UnixFd(fd))
        os.close(fd)
        return False

    def turn(self, id):
        if id not in self.turns:
            raise error("NoSuchTurn")
        return self.turns[id]

    @dbus.service.method(AGENT, in_signature="s", out_signature="h")
    def OpenStream(self, id):
        log("OpenStream", self.id, id)
        if "[[gone]]" in self.turn(id).text:
            raise error("StreamGone")
        fd = self.turn(id).open()
        result = dbus.types.UnixFd(fd)
        os.close(fd)
        return result

    @dbus.service.method(AGENT, in_signature="s", out_signature="b")
    def Interrupt(self, id):
        log("Interrupt", self.id, id)
        turn = self.turn(id) if id else next((t for t in self.turns.values() if not t.ended()), None)
        if not turn or turn.ended():
            return False
        turn.finish("cancelled")
        return True

    @dbus.service.method(AGENT, in_signature="s", out_signature="a{sv}")
    def GetTurn(self, id):
        turn = self.turn(id)
        if not turn.options.get("Store", True):
            raise error("NoSuchTurn")
        answer = {"Status": turn.status, "Document": turn.options.get("Document", ""), "Conversation": "main",
                  "CreatedAt": dbus.UInt64(turn.created), "Messages": dbus.Array(turn.messages, signature="(sss)"),
                  "Reason": turn.reason}
        if turn.ended():
            answer["EndedAt"] = dbus.UInt64(turn.ended_at)
            answer["Usage"] = dbus.Dictionary(turn.usage, signature="st")
        if turn.error:
            answer["ErrorCode"], answer["ErrorMessage"] = turn.error
        return dbus.Dictionary(answer, signature="sv")

    @dbus.service.method(AGENT, in_signature="s")
    def DeleteTurn(self, id):
        log("DeleteTurn", self.id, id)
        if not self.turn(id).ended():
            self.turn(id).finish("cancelled")
        del self.turns[id]


    @dbus.service.method(AGENT, in_signature="ssu", out_signature="a(sssts)ba{sas}")
    def ListMessages(self, conversation, before, limit):
        log("ListMessages", self.id, repr(str(conversation)), repr(str(before)), int(limit))
        if before == "nothing":
            raise error("InvalidArgument", "There is no such message.")
        said = [(f"m{i}", "assistant" if i % 2 else "user", f"text {i}", dbus.UInt64(1795226603900000 + i),
                 "resp_4a5a67bb" + 40 * "0" if i % 2 else "batch") for i in range(300)]
        if before:
            said = said[:int(before[1:])]
        files = {"m298": ["a.txt", "b.png"]} if len(said) == 300 else {}
        return (dbus.Array(said[-limit:], signature="(sssts)"), len(said) > limit,
                dbus.Dictionary(files, signature="sas"))


class Root(dbus.service.Object):
    def __init__(self, bus):
        super().__init__(bus, ROOT)
        self.approvals = {}
        self.bus, self.agents = bus, {}
        for id, role, name in [("engineer_alice", "engineer", "alice"), ("manager", "manager", ""), ("bot", "", "")]:
            self.agents[id] = Agent(bus, id, role, name)
        for id in os.environ.get("AGENTS", "").split():
            self.agents[id] = Agent(bus, id, *id.split("_"))

    @dbus.service.method("org.freedesktop.DBus.ObjectManager", out_signature="a{oa{sa{sv}}}",
                         async_callbacks=("reply", "fail"))
    def GetManagedObjects(self, reply, fail):
        objects = {a.path: {AGENT: a.properties} for a in self.agents.values()} | {ROOT: {MANAGER: {"Version": "0"}}}
        GLib.timeout_add(int(os.environ.get("SLOW_LIST", "0")), lambda: reply(objects))

    @dbus.service.signal("org.freedesktop.DBus.ObjectManager", signature="oa{sa{sv}}")
    def InterfacesAdded(self, path, interfaces):
        pass

    @dbus.service.signal("org.freedesktop.DBus.ObjectManager", signature="oas")
    def InterfacesRemoved(self, path, interfaces):
        pass

    @dbus.service.signal(MANAGER, signature="so")
    def ApprovalRequested(self, id, agent):
        pass

    @dbus.service.signal(MANAGER, signature="sos")
    def ApprovalAnswered(self, id, agent, state):
        pass

    @dbus.service.method("x.Test", in_signature="s")
    def Remove(self, id):
        agent = self.agents.pop(str(id))
        agent.remove_from_connection()
        self.InterfacesRemoved(agent.path, [AGENT])

    @dbus.service.method("x.Test", in_signature="sss")
    def Ask(self, id, agent, input):
        """One of the agent's tools wants something."""
        now = time.time_ns() // 1000
        self.approvals[str(id)] = {
            "Id": id, "Agent": agent, "Tool": "Bash", "Summary": "does something",
            "InputSize": dbus.UInt64(len(input)), "Turn": "t", "State": "pending", "CreatedAt": dbus.UInt64(now), "ExpiresAt": dbus.UInt64(now + 300000000),
            "AnsweredAt": dbus.UInt64(0), "Input": input}
        self.ApprovalRequested(id, self.agents[str(agent)].path)

    @dbus.service.method(MANAGER, in_signature="sb", out_signature="aa{sv}")
    def ListApprovals(self, agent, all):
        log("ListApprovals", agent)
        if agent == "stopped":
            raise error("NotReady", "it is stopped")
        return dbus.Array([dbus.Dictionary(a, signature="sv") for a in self.approvals.values()
                           if a["Agent"] == agent and (all or a["State"] == "pending")], signature="a{sv}")

    @dbus.service.method(MANAGER, in_signature="sbs")
    def Approve(self, id, allow, reason):
        log("Approve", id, bool(allow), repr(str(reason)))
        if str(id) not in self.approvals:
            raise error("NoSuchApproval")
        if self.approvals[id]["State"] != "pending":
            raise error("AlreadyAnswered", "it was " + self.approvals[id]["State"])
        self.approvals[id]["State"] = "allowed" if allow else "denied"
        self.ApprovalAnswered(id, self.agents[str(self.approvals[id]["Agent"])].path, self.approvals[id]["State"])

    @dbus.service.method(MANAGER, in_signature="ss", out_signature="oub")
    def Hire(self, role, name):
        id = f"{role}_{name}".lower()
        log("Hire", id)
        if len(id) > 64:
            raise error("InvalidName", f"invalid agent name: '{name}' (too long with its role)")
        if name == "late":
            return ROOT + "/agent/manager", dbus.UInt32(0), True
        if name in ("masked", "slow"):      # what the bus says of a service that it cannot start
            raise dbus.exceptions.DBusException("no", name={"masked": "org.freedesktop.systemd1.UnitMasked",
                                                            "slow": "org.freedesktop.DBus.Error.TimedOut"}[name])
        if name == "removed":
            return ROOT + "/agent/removed", dbus.UInt32(4242), True
        created = id not in self.agents
        if created and name == "crash":
            os._exit(1)
        if created:
            self.agents[id] = Agent(self.bus, id, role, name)
            self.InterfacesAdded(self.agents[id].path, {AGENT: self.agents[id].properties})
        return self.agents[id].path, dbus.UInt32(4242), created


dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SessionBus() if "--system" not in sys.argv else dbus.SystemBus()
root = Root(bus)
name = dbus.service.BusName(NAME, bus)
log("ready")
GLib.MainLoop().run()
