/* SPDX-License-Identifier: MIT */

#include <poll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <systemd/sd-login.h>

#include "agent-turn-bus.h"
#include "approvals-bus.h"
#include "bus-util.h"
#include "credential-refresh.h"
#include "event-util.h"
#include "harness-unit.h"
#include "log.h"
#include "pending.h"
#include "private-server.h"
#include "staff-bus.h"
#include "string-util.h"

#define LINKS_MAX 1024U
#define LINKS_PER_AGENT_MAX 8U          /* one, and those whose end has not been seen yet */
#define REPORTED_TEXT_MAX 4096U

/* One connection. Before it is known that the peer is the main process of an agent's session it has no bus. */
struct SessionLink {
        LIST_ENTRY(SessionLink) links;
        PrivateServer *server;
        Agent *agent;           /* NULL: the agent is gone */
        int fd, pidfd;
        pid_t pid;
        sd_bus_slot *checking;  /* MainPID is being asked for */
        sd_bus *bus;
        sd_event_source *early_calls;
        bool registered;
};

struct PrivateServer {
        Manager *manager;
        int fd;
        sd_event_source *io, *pause;
        LIST_HEAD(SessionLinkList, SessionLink) links;
        unsigned n_links;
        LogLimit refusals;
};

static void link_free(SessionLink *l) {
        if (l->agent && l->agent->link == l) {
                l->agent->link = NULL;
                (void) free_and_strdup(&l->agent->reported_status, "");
                if (agent_decides_itself(l->agent))
                        l->agent->dirty |= AGENT_DIRTY_CONFIG;
                agent_evaluate(l->agent);
        }
        LIST_REMOVE(l, links);
        l->server->n_links--;
        sd_bus_slot_unref(l->checking);
        sd_event_source_disable_unref(l->early_calls);
        sd_bus_close_unref(l->bus);
        safe_close(l->fd);
        safe_close(l->pidfd);
        free(l);
}

bool session_link_is_up(const SessionLink *l) {
        return l && l->bus && sd_bus_is_open(l->bus) > 0;
}

sd_bus* session_link_bus(SessionLink *l) {
        return l->bus;
}

bool session_connection_was_lost(const sd_bus_error *e) {
        return sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED, "System.Error.ECONNRESET",
                                      "System.Error.ENOTCONN", "System.Error.ECONNABORTED");
}

Agent* session_link_agent(SessionLink *l) {
        return l->agent && l->agent->link == l ? l->agent : NULL;
}

void private_server_forget_agent(PrivateServer *s, Agent *a) {
        SessionLink *l;

        LIST_FOREACH(l, &s->links, links)
                if (l->agent == a)
                        l->agent = NULL;
        a->link = NULL;
}

int session_link_new_call(SessionLink *l, const char *member, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(l->bus, ret, NULL, PUFFO_PRIVATE_SESSION_PATH,
                                              PUFFO_PRIVATE_SESSION_INTERFACE, member);
}

int session_link_call(SessionLink *l, sd_bus_message *m, sd_bus_message_handler_t callback, void *userdata,
                      uint64_t timeout_usec) {
        return sd_bus_call_async(l->bus, NULL, m, callback, userdata, timeout_usec);
}

static int method_register(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        SessionLink *l = userdata;
        Agent *a = l->agent;
        int r;

        if (!a)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT, "This agent is gone.");

        /* A newer connection of the same session takes the place of one that we have not seen the end of. */
        if (a->link && a->link != l)
                a->link->agent = NULL;
        a->link = l;
        l->registered = true;

        r = sd_bus_reply_method_return(message, "s", a->home->id);
        agent_tell_working_directory(a);
        agent_evaluate(a);
        return r;
}

/* One member of a report; unknown ones are a newer session's. */
static int take_report_member(Agent *a, sd_bus_message *m, const char *name) {
        static const struct {
                const char *name;
                size_t offset;
                bool config;            /* shown as a part of the configuration */
        } strings[] = {
                { "Status", offsetof(Agent, reported_status), false },
                { "StatusText", offsetof(Agent, reported_text), false },
                { "Health", offsetof(Agent, reported_health), false },
                { "WorkingDirectory", offsetof(Agent, working_directory), false },
                { "RuntimeKind", offsetof(Agent, decided_kind), true },
                { "Harness", offsetof(Agent, decided_harness), true },
                { "Provider", offsetof(Agent, decided_provider), true },
                { "Model", offsetof(Agent, decided_model), true },
        };
        const char *text;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(strings); i++)
                if (streq(name, strings[i].name)) {
                        r = sd_bus_message_read(m, "v", "s", &text);
                        if (r >= 0 && strlen(text) > REPORTED_TEXT_MAX) /* it goes out to everybody on the bus */
                                return -E2BIG;
                        if (r >= 0)
                                r = free_and_strdup((char**) ((char*) a + strings[i].offset), text);
                        /* The state may be the same, what is shown of it is not. */
                        if (r == 0 && streq(name, "Status"))
                                a->dirty |= AGENT_DIRTY_STATE;
                        if (r == 0 && strings[i].config && agent_decides_itself(a))
                                a->dirty |= AGENT_DIRTY_CONFIG;
                        return r;
                }
        if (streq(name, "Approvals"))
                return approvals_take_report(a, m);
        if (streq(name, "Credential")) {
                r = sd_bus_message_read(m, "v", "s", &text);
                if (r >= 0)
                        agent_adopt_credential(a, text);
                return r;
        }
        if (streq(name, "QueueLength"))
                return sd_bus_message_read(m, "v", "u", &a->queue_length);
        if (streq(name, "MessagesProcessed"))
                return sd_bus_message_read(m, "v", "t", &a->messages_processed);
        if (streq(name, "LastEvent"))
                return sd_bus_message_read(m, "v", "t", &a->last_event);
        return sd_bus_message_skip(m, "v");
}

static int method_report(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        SessionLink *l = userdata;
        Agent *a = l->agent;
        int r;

        if (!a || a->link != l)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT, "Register comes first.");

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                const char *name;

                r = sd_bus_message_read(message, "s", &name);
                if (r >= 0)
                        r = take_report_member(a, message, name);
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;

        a->dirty |= AGENT_DIRTY_REPORT;
        r = sd_bus_reply_method_return(message, NULL);
        agent_evaluate(a);
        return r;
}

static int method_approval_answered(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        SessionLink *l = userdata;
        const char *id, *state;
        int r;

        if (!l->agent || l->agent->link != l)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT, "Register comes first.");
        r = sd_bus_message_read(message, "ss", &id, &state);
        if (r >= 0)
                r = approval_ended(l->agent, id, state);
        return r < 0 ? r : sd_bus_reply_method_return(message, NULL);
}

static int method_refresh_credentials(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        SessionLink *l = userdata;

        return credential_refresh_method(l->server->manager, message, reterr_error);
}

static int method_hire_agent(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = session_link_agent(userdata);
        int r = staff_check_boss(a, reterr_error);

        return r < 0 ? r : manager_hire_for(a, message, reterr_error);
}

static int method_ask_agent(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = session_link_agent(userdata);
        int r = staff_check_boss(a, reterr_error);

        return r < 0 ? r : staff_ask(a, message, reterr_error);
}

static int method_interrupt_asked(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = session_link_agent(userdata);
        int r = staff_check_boss(a, reterr_error);

        return r < 0 ? r : staff_interrupt(a, message, reterr_error);
}

static const sd_bus_vtable private_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Register", SD_BUS_NO_ARGS, SD_BUS_RESULT("s", id), method_register,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Report", SD_BUS_ARGS("a{sv}", status), SD_BUS_NO_RESULT, method_report,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("StartHarness", SD_BUS_ARGS("a{sv}", harness, "h", stdin, "h", stdout, "h", stderr),
                                SD_BUS_RESULT("a{sv}", started), harness_method_start, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("StopHarness", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, harness_method_stop,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("FreezeHarness", SD_BUS_ARGS("b", freeze), SD_BUS_RESULT("b", frozen),
                                harness_method_freeze, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("WaitHarness", SD_BUS_ARGS("ay", invocation), SD_BUS_RESULT("a{sv}", end),
                                harness_method_wait, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ApprovalAnswered", SD_BUS_ARGS("s", id, "s", state), SD_BUS_NO_RESULT,
                                method_approval_answered, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("HireAgent", SD_BUS_ARGS("s", role, "s", name),
                                SD_BUS_RESULT("o", agent, "u", pid, "b", created), method_hire_agent,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("AskAgent", SD_BUS_ARGS("s", agent, "s", turn, "s", text, "h", stream),
                                SD_BUS_NO_RESULT, method_ask_agent, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("InterruptAsked", SD_BUS_ARGS("s", agent, "s", turn), SD_BUS_RESULT("b", ended),
                                method_interrupt_asked, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("RefreshCredentials", SD_BUS_ARGS("s", provider), SD_BUS_RESULT("s", result),
                                method_refresh_credentials, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

int private_server_export(sd_bus *bus, SessionLink *l) {
        return sd_bus_add_object_vtable(bus, NULL, PUFFO_PRIVATE_MANAGER_PATH, PUFFO_PRIVATE_MANAGER_INTERFACE,
                                        private_vtable, l);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        link_free(userdata);
        return 0;
}

static int link_start(SessionLink *l) {
        sd_id128_t id;
        int r;

        r = sd_bus_new(&l->bus);
        if (r < 0)
                return r;
        r = sd_bus_set_fd(l->bus, l->fd, l->fd);
        if (r < 0)
                return r;
        TAKE_FD(l->fd);

        r = sd_id128_randomize(&id);
        if (r >= 0)
                r = sd_bus_set_server(l->bus, 1, id);
        if (r >= 0)
                r = sd_bus_negotiate_fds(l->bus, 1);
        if (r >= 0)
                r = bus_heed_early_calls(l->bus, l->server->manager->event, &l->early_calls);
        if (r >= 0)
                r = sd_bus_start(l->bus);
        if (r >= 0)
                r = private_server_export(l->bus, l);
        if (r >= 0)
                r = sd_bus_match_signal_async(l->bus, NULL, NULL, "/org/freedesktop/DBus/Local",
                                              "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, NULL, l);
        return r < 0 ? r : sd_bus_attach_event(l->bus, l->server->manager->event, SD_EVENT_PRIORITY_NORMAL);
}

/* The pid was resolved to a unit while the process lived; that it still does, and is still the main process, closes
 * the race with a pid that was used again. */
static bool process_is_alive(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        return poll(&p, 1, 0) == 0;
}

static int on_main_pid(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        SessionLink *l = userdata;
        uint32_t main_pid = 0;
        int r = -EPERM;

        l->checking = sd_bus_slot_unref(l->checking);
        if (!sd_bus_message_is_method_error(m, NULL))
                (void) sd_bus_message_read(m, "v", "u", &main_pid);

        if (l->agent && !l->agent->foreign && main_pid == (uint32_t) l->pid && process_is_alive(l->pidfd))
                r = link_start(l);
        if (r < 0) {
                (void) log_warning_errno(r, "Process %d is not the session of agent '%s': disconnected.", (int) l->pid,
                                         l->agent ? l->agent->home->id : "?");
                link_free(l);
        }
        return 0;
}

static Agent* find_agent_of_peer(Manager *m, int fd) {
        _cleanup_free_ char *unit = NULL;
        int r;

        r = m->scope == SCOPE_USER ? sd_peer_get_user_unit(fd, &unit) : sd_peer_get_unit(fd, &unit);
        if (r < 0)
                return NULL;
        for (size_t i = 0; i < m->n_agents; i++)
                if (streq(m->agents[i]->unit, unit))
                        return m->agents[i];
        return NULL;
}

static unsigned count_links(const PrivateServer *s, const Agent *a) {
        const SessionLink *l;
        unsigned n = 0;

        LIST_FOREACH(l, &s->links, links)
                n += l->agent == a;
        return n;
}

static int link_new(PrivateServer *s, int fd) {
        struct ucred ucred;
        socklen_t n = sizeof(ucred);
        SessionLink *l;
        int r;

        l = new0(SessionLink, 1);
        if (!l) {
                safe_close(fd);
                return -ENOMEM;
        }
        *l = (SessionLink) { .server = s, .fd = fd, .pidfd = -EBADF };
        LIST_INSERT_HEAD(&s->links, l, links);
        s->n_links++;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ucred, &n) < 0) {
                r = -errno;
                goto fail;
        }
        l->pid = ucred.pid;
        l->pidfd = pidfd_open(ucred.pid, 0);
        if (l->pidfd < 0) {
                r = -errno;
                goto fail;
        }
        l->agent = find_agent_of_peer(s->manager, fd);
        if (!l->agent) {
                if (log_limit_passes(&s->refusals))
                        (void) log_warning_errno(EPERM, "Process %d is in no session's unit: disconnected.",
                                                 (int) l->pid);
                r = -EPERM;
                goto fail;
        }
        if (count_links(s, l->agent) > LINKS_PER_AGENT_MAX) {
                if (log_limit_passes(&s->refusals))
                        (void) log_warning_errno(EMFILE, "The session of agent '%s' has more than %u connections: one "
                                                 "was disconnected.", l->agent->home->id, LINKS_PER_AGENT_MAX);
                r = -EMFILE;
                goto fail;
        }

        r = sd_bus_call_method_async(s->manager->bus, &l->checking, "org.freedesktop.systemd1", l->agent->unit_path,
                                     "org.freedesktop.DBus.Properties", "Get", on_main_pid, l, "ss",
                                     "org.freedesktop.systemd1.Service", "MainPID");
        if (r < 0)
                goto fail;
        return 0;

fail:
        link_free(l);
        return r;
}

static int on_connection(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata) {
        PrivateServer *s = userdata;
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
                if (errno_is_shortage(errno)) {
                        (void) log_warning_errno(errno, "Sessions cannot connect for the moment: %m");
                        (void) event_pause(s->io, s->pause, USEC_PER_SEC);
                }
                return 0;
        }
        if (s->n_links >= LINKS_MAX) {
                if (log_limit_passes(&s->refusals))
                        log_warning("More than %u sessions want to talk at once: one was disconnected.", LINKS_MAX);
                safe_close(fd);
                return 0;
        }
        (void) link_new(s, fd);
        return 0;
}

int private_server_new(PrivateServer **ret, Manager *m, int listen_fd) {
        PrivateServer *s = new0(PrivateServer, 1);
        int r;

        if (!s) {
                safe_close(listen_fd);
                return -ENOMEM;
        }
        *s = (PrivateServer) { .manager = m, .fd = listen_fd };
        LIST_INIT(&s->links);

        r = sd_event_add_io(m->event, &s->io, listen_fd, EPOLLIN, on_connection, s);
        if (r >= 0)
                r = event_limit_connections(s->io);
        if (r >= 0)
                r = event_pause_new(s->io, &s->pause);
        if (r < 0) {
                private_server_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

void private_server_pause(PrivateServer *s) {
        if (s)
                (void) sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
}

PrivateServer* private_server_free(PrivateServer *s) {
        if (!s)
                return NULL;
        while (!LIST_EMPTY(&s->links)) {
                SessionLink *l = LIST_FIRST(&s->links);

                if (l->agent && l->agent->link == l)
                        l->agent->link = NULL;
                l->agent = NULL;
                link_free(l);
        }
        sd_event_source_disable_unref(s->pause);
        sd_event_source_disable_unref(s->io);
        safe_close(s->fd);
        return mfree(s);
}
