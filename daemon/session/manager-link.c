/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "jitter.h"
#include "log.h"
#include "manager-link.h"
#include "session.h"
#include "session-bus.h"

#define PAUSE_MIN_USEC (250 * USEC_PER_MSEC)
#define PAUSE_MAX_USEC (30 * USEC_PER_SEC)
/* Who has registered us is back soon, at once if he had lasted at least so long: pauses grow only before that, so that
 * a puffod that turns us away is not run down. */
#define LASTING_USEC (1 * USEC_PER_SEC)

struct ManagerLink {
        Session *session;               /* borrowed */
        sd_event *event;                /* borrowed */
        char *socket;
        char *credential;               /* hash of what we were started with, or NULL */
        sd_bus *bus;                    /* NULL while there is no connection */
        SessionBus *face;
        sd_bus_slot *disconnected, *registering;
        bool registered;
        uint64_t registered_usec;
        uint64_t pause_usec;            /* before the next attempt; 0: at once */
        sd_event_source *retry, *report;
};

static int link_connect(ManagerLink *l);

static void link_close(ManagerLink *l) {
        l->registered = false;
        l->face = session_bus_free(l->face);
        l->registering = sd_bus_slot_unref(l->registering);
        l->disconnected = sd_bus_slot_unref(l->disconnected);
        /* Without flushing: the other end is gone, or we want nothing of it any more. */
        l->bus = sd_bus_close_unref(l->bus);
}

ManagerLink* manager_link_free(ManagerLink *l) {
        if (!l)
                return NULL;

        if (l->bus && l->registered)
                (void) sd_bus_flush(l->bus);
        link_close(l);
        (void) sd_event_source_disable_unref(l->retry);
        (void) sd_event_source_disable_unref(l->report);
        free(l->socket);
        free(l->credential);
        return mfree(l);
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata);

static void retry_later(ManagerLink *l) {
        uint64_t delay = l->pause_usec > 0 ? random_between(l->pause_usec / 4 * 3, l->pause_usec / 4 * 5) : 0;
        int r;

        l->pause_usec = CLAMP(l->pause_usec * 2, PAUSE_MIN_USEC, PAUSE_MAX_USEC);
        r = event_arm_timer(l->event, &l->retry, delay, delay > 0 ? 0 : 1, on_retry, l);
        if (r < 0)
                (void) log_error_errno(r, "Failed to arm the timer for the next connection to puffod: %m");
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        ManagerLink *l = userdata;
        int r;

        if (l->bus)
                link_close(l);          /* left over from a registration that failed */
        r = link_connect(l);
        if (r < 0) {
                log_debug("puffod cannot be reached at '%s': %s", l->socket, strerror(-r));
                link_close(l);
                retry_later(l);
        }
        return 0;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        ManagerLink *l = userdata;

        if (l->registered) {
                log_info("Lost the connection to puffod, connecting again.");
                l->pause_usec = now_boottime_usec() - l->registered_usec >= LASTING_USEC ? 0 : PAUSE_MIN_USEC;
        }
        /* The connection is freed from the timer, not from inside its own callback. */
        l->registered = false;
        retry_later(l);
        return 0;
}

/* Its own file: the configuration is read anew at each turn, this is of the moment of our start. */
static int credential_describe(char **ret) {
        const char *directory = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_free_ char *path = NULL;
        uint8_t hash[32];
        size_t size;
        char *text;
        int r;

        *ret = NULL;
        if (isempty(directory))
                return 0;
        path = path_join(directory, "session");
        if (!path)
                return -ENOMEM;
        r = file_read(path, KIB(64), &text, &size);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        (void) crypto_generichash(hash, sizeof(hash), (const uint8_t*) text, size, NULL, 0);
        sodium_memzero(text, size);
        free(text);

        *ret = malloc(2 * sizeof(hash) + 1);
        if (!*ret)
                return -ENOMEM;
        (void) sodium_bin2hex(*ret, 2 * sizeof(hash) + 1, hash, sizeof(hash));
        return 0;
}

static int append_approvals(sd_bus_message *m, const Approvals *a) {
        size_t n = a ? approvals_n_open(a) : 0;
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Approvals");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; i < n && r >= 0; i++)
                r = sd_bus_message_append(m, "s", approvals_open_id(a, i));
        for (unsigned i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int report_append(sd_bus_message *m, Session *s, const char *credential) {
        TurnQueue *q = session_queue(s);
        const char *runtime[9];
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "Status", "s", session_state_to_string(session_state(s)));
        if (r >= 0)
                r = bus_append_text_entry(m, "StatusText", session_status_text(s));
        if (r >= 0)
                r = bus_append_text_entry(m, "Health", session_health(s));
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "QueueLength", "u", q ? (uint32_t) turn_queue_length(q) : 0);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "MessagesProcessed", "t",
                                          q ? turn_queue_processed(q) : (uint64_t) 0);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "LastEvent", "t",
                                          q ? turn_queue_last_event_usec(q) : (uint64_t) 0);
        if (r >= 0)
                r = append_approvals(m, session_approvals(s));
        if (r >= 0)
                r = bus_append_text_entry(m, "WorkingDirectory", session_working_directory(s));
        session_runtime(s, runtime);
        for (const char **p = runtime; *p && r >= 0; p += 2)
                r = bus_append_text_entry(m, p[0], p[1]);
        if (r >= 0 && credential)
                r = sd_bus_message_append(m, "{sv}", "Credential", "s", credential);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r;
}

static int on_report_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);

        if (e && !sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED))
                log_warning("puffod did not take a report, ignoring: %s", strempty(e->message));
        return 0;
}

static int send_report(ManagerLink *l) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(l->bus, &m, NULL, PUFFO_PRIVATE_MANAGER_PATH,
                                           PUFFO_PRIVATE_MANAGER_INTERFACE, "Report");
        if (r >= 0)
                r = report_append(m, l->session, l->credential);
        if (r >= 0)
                r = sd_bus_call_async(l->bus, NULL, m, on_report_reply, NULL, 0);
        return r;
}

static int on_report(sd_event_source *s, void *userdata) {
        ManagerLink *l = userdata;
        int r;

        if (!l->bus || !l->registered)
                return 0;
        r = send_report(l);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to report to puffod, ignoring: %m");
        return 0;
}

void manager_link_report_now(ManagerLink *l) {
        (void) on_report(l->report, l);
}

void manager_link_report(ManagerLink *l) {
        int r;

        if (!l->registered)
                return;         /* the registration's reply sends one */
        r = sd_event_source_set_enabled(l->report, SD_EVENT_ONESHOT);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to schedule a report, ignoring: %m");
}

static int on_told(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);

        if (e && !sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED))
                log_warning("puffod did not take the news of a permission, ignoring: %s", strempty(e->message));
        return 0;
}

void manager_link_approval_answered(ManagerLink *l, const ApprovalRow *row) {
        int r;

        if (!l->bus || !l->registered)
                return;
        r = sd_bus_call_method_async(l->bus, NULL, NULL, PUFFO_PRIVATE_MANAGER_PATH, PUFFO_PRIVATE_MANAGER_INTERFACE,
                                     "ApprovalAnswered", on_told, NULL, "ss", row->id,
                                     approval_state_to_string(row->state));
        if (r < 0)
                (void) log_warning_errno(r, "Failed to tell puffod of a permission, ignoring: %m");
}

static int on_registered(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        ManagerLink *l = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        const char *id;
        int r;

        if (e) {
                /* A lost connection has its own callback, which is just about to come. */
                if (!sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED))
                        log_warning("puffod refused to register us: %s", strempty(e->message));
                retry_later(l);
                return 0;
        }
        r = sd_bus_message_read(m, "s", &id);
        if (r < 0 || !streq(id, session_id(l->session))) {
                log_error("puffod takes us for another agent, trying again.");
                retry_later(l);
                return 0;
        }

        log_debug("Registered with puffod.");
        l->registered = true;
        l->registered_usec = now_boottime_usec();
        manager_link_report(l);
        session_on_connected(l->session, l);
        return 0;
}

int manager_link_new_call(ManagerLink *l, const char *member, sd_bus_message **ret) {
        if (!l->bus || !l->registered)
                return -ENOTCONN;
        return sd_bus_message_new_method_call(l->bus, ret, NULL, PUFFO_PRIVATE_MANAGER_PATH,
                                              PUFFO_PRIVATE_MANAGER_INTERFACE, member);
}

int manager_link_call(ManagerLink *l, sd_bus_message *m, sd_bus_message_handler_t callback, void *userdata,
                      uint64_t timeout_usec, sd_bus_slot **ret) {
        return sd_bus_call_async(l->bus, ret, m, callback, userdata, timeout_usec);
}

static int socket_connect(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        (void) strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        /* Local stream sockets connect at once or not at all. */
        if (connect(fd, (const struct sockaddr*) &address, sizeof(address)) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static int link_connect(ManagerLink *l) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = socket_connect(l->socket);
        if (fd < 0)
                return fd;
        r = sd_bus_new(&l->bus);
        if (r < 0)
                return r;
        r = sd_bus_set_fd(l->bus, fd, fd);
        if (r < 0)
                return r;
        (void) TAKE_FD(fd);
        r = sd_bus_set_bus_client(l->bus, 0);
        if (r >= 0)
                r = sd_bus_negotiate_fds(l->bus, 1);
        if (r >= 0)
                r = sd_bus_start(l->bus);
        if (r >= 0)
                r = session_bus_new(&l->face, l->bus, l->session);
        if (r >= 0)
                r = sd_bus_match_signal_async(l->bus, &l->disconnected, NULL, "/org/freedesktop/DBus/Local",
                                              "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, NULL, l);
        if (r >= 0)
                r = sd_bus_attach_event(l->bus, l->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_call_method_async(l->bus, &l->registering, NULL, PUFFO_PRIVATE_MANAGER_PATH,
                                             PUFFO_PRIVATE_MANAGER_INTERFACE, "Register", on_registered, l, NULL);
        return r;
}

int manager_link_new(ManagerLink **ret, Session *session, const char *socket) {
        _cleanup_(manager_link_freep) ManagerLink *l = new0(ManagerLink, 1);
        int r;

        if (!l)
                return -ENOMEM;
        l->session = session;
        l->event = session_event(session);
        l->socket = strdup(socket);
        if (!l->socket)
                return -ENOMEM;
        r = credential_describe(&l->credential);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                (void) log_warning_errno(r, "Failed to read the credential 'session', ignoring: %m");
        r = sd_event_add_defer(l->event, &l->report, on_report, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->report, SD_EVENT_OFF);
        if (r < 0)
                return r;

        retry_later(l);         /* the first time at once */
        *ret = TAKE_PTR(l);
        return 0;
}
