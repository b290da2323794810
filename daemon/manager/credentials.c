/* SPDX-License-Identifier: MIT */

/* Serves LoadCredential=: the service manager connects before it starts a session, from an abstract address that names
 * the unit and the credential, and reads until end of file. It must be answered without waiting for anything, since
 * the service manager waits too. */

#include <stdio.h>
#include <sodium.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <systemd/sd-login.h>

#include "agent.h"
#include "event-util.h"
#include "helpers.h"
#include "log.h"
#include "string-util.h"

struct CredentialServer {
        Manager *manager;
        int fd;
        sd_event_source *io, *pause;
        LogLimit refusals;
};

int credential_name_parse(const char *path, size_t size, char **ret_unit, char **ret_credential) {
        _cleanup_free_ char *text = NULL, *unit = NULL;
        const char *begin, *slash;

        if (size < 2 || path[0] != 0 || memchr(path + 1, 0, size - 1))
                return -EBADMSG;
        text = memdup0(path + 1, size - 1);
        if (!text)
                return -ENOMEM;

        begin = strchr(text, '/');
        begin = begin ? startswith(begin, "/unit/") : NULL;
        slash = begin ? strrchr(begin, '/') : NULL;
        if (!slash || slash == begin || !slash[1])
                return -EBADMSG;

        unit = memdup0(begin, (size_t) (slash - begin));
        *ret_credential = strdup(slash + 1);
        if (!unit || !*ret_credential) {
                *ret_credential = mfree(*ret_credential);
                return -ENOMEM;
        }
        *ret_unit = TAKE_PTR(unit);
        return 0;
}

static Agent* find_agent_by_unit(Manager *m, const char *unit) {
        for (size_t i = 0; i < m->n_agents; i++)
                if (streq(m->agents[i]->unit, unit))
                        return m->agents[i];
        return NULL;
}

/* It is not the service manager itself that asks, but the process that it has forked for the unit, in the unit's
 * control group already and with the manager's uid still: ours in user mode, root's in system mode. The uid alone is
 * that of everything else the user runs, and the address is chosen freely. */
static int peer_check(const Manager *m, int fd, const char *asked_for) {
        _cleanup_free_ char *unit = NULL;
        struct ucred ucred;
        socklen_t n = sizeof(ucred);
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &ucred, &n) < 0)
                return -errno;
        if (ucred.uid != geteuid())
                return -EPERM;
        r = m->scope == SCOPE_USER ? sd_peer_get_user_unit(fd, &unit) : sd_peer_get_unit(fd, &unit);
        if (r < 0)
                return r == -ENOMEM ? r : -EPERM;
        return streq(unit, asked_for) ? 0 : -EPERM;
}

static int answer(Manager *m, int fd, const char **ret_what) {
        _cleanup_free_ char *unit = NULL, *credential = NULL, *text = NULL;
        struct sockaddr_un peer;
        socklen_t n = sizeof(peer);
        ssize_t written;
        size_t size;
        Agent *a;
        int r;

        *ret_what = "who asks";
        if (getpeername(fd, (struct sockaddr*) &peer, &n) < 0)
                return -errno;
        r = credential_name_parse(peer.sun_path, n - offsetof(struct sockaddr_un, sun_path), &unit, &credential);
        if (r >= 0)
                r = peer_check(m, fd, unit);
        if (r < 0)
                return r;

        *ret_what = "what is asked for";
        a = find_agent_by_unit(m, unit);
        if (!a || !streq(credential, "session"))
                return -ENOENT;

        *ret_what = "answering";
        r = agent_credential(a, &text, &size);
        if (r < 0)
                return r;
        /* A fresh socket has room for far more than this. */
        written = send(fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (written == (ssize_t) size) {
                (void) crypto_generichash(a->credential_hash, sizeof(a->credential_hash), (uint8_t *) text, size, NULL,
                                          0);
                /* What it was to be started again for it has now. */
                a->restart_when_idle = false;
        }
        sodium_memzero(text, size);
        return written < 0 ? -errno : written == (ssize_t) size ? 0 : -EIO;
}

void agent_adopt_credential(Agent *a, const char *hex) {
        uint8_t hash[sizeof(a->credential_hash)];
        size_t n;

        /* What we have given ourselves we know better. */
        if (!sodium_is_zero(a->credential_hash, sizeof(a->credential_hash)) ||
            sodium_hex2bin(hash, sizeof(hash), hex, strlen(hex), NULL, &n, NULL) < 0 || n != sizeof(hash))
                return;
        memcpy(a->credential_hash, hash, sizeof(hash));
        agent_check_credential(a);
}

static int on_connection(sd_event_source *s, int listen_fd, uint32_t revents, void *userdata) {
        CredentialServer *c = userdata;
        _cleanup_close_ int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        const char *what;
        int r;

        if (fd < 0 && errno_is_shortage(errno)) {
                (void) log_warning_errno(errno, "A session's credential cannot be given out for the moment: %m");
                (void) event_pause(c->io, c->pause, USEC_PER_SEC);
        }
        if (fd < 0)
                return 0;
        r = answer(c->manager, fd, &what);
        if (r < 0 && log_limit_passes(&c->refusals))
                (void) log_warning_errno(r, "A credential was not given out (%s): %m", what);
        return 0;
}

int credential_server_new(CredentialServer **ret, Manager *m, int listen_fd) {
        CredentialServer *c = new0(CredentialServer, 1);
        int r;

        if (!c) {
                safe_close(listen_fd);
                return -ENOMEM;
        }
        *c = (CredentialServer) { .manager = m, .fd = listen_fd };

        r = sd_event_add_io(m->event, &c->io, listen_fd, EPOLLIN, on_connection, c);
        /* Before anything else: a start of a unit waits for it. */
        if (r >= 0)
                r = sd_event_source_set_priority(c->io, SD_EVENT_PRIORITY_IMPORTANT);
        if (r >= 0)
                r = event_limit_connections(c->io);
        if (r >= 0)
                r = event_pause_new(c->io, &c->pause);
        if (r < 0) {
                credential_server_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

void credential_server_pause(CredentialServer *c) {
        if (c)
                (void) sd_event_source_set_enabled(c->io, SD_EVENT_OFF);
}

CredentialServer* credential_server_free(CredentialServer *c) {
        if (!c)
                return NULL;
        sd_event_source_disable_unref(c->pause);
        sd_event_source_disable_unref(c->io);
        safe_close(c->fd);
        return mfree(c);
}
