/* SPDX-License-Identifier: MIT */
#pragma once

#include "ctl-bus.h"
#include "paths.h"

extern const Program agent_proxy_program;

/* agent-proxy's commands (agent-proxy §§7–9), each in the file of its subject. */
int proxy_enable(Ctl *c, const Arguments *a);
int proxy_disable(Ctl *c, const Arguments *a);
int proxy_restart(Ctl *c, const Arguments *a);
int proxy_daemon(Ctl *c, const Arguments *a);
int proxy_init(Ctl *c, const Arguments *a);
int proxy_hire(Ctl *c, const Arguments *a);
int proxy_list(Ctl *c, const Arguments *a);
int proxy_status(Ctl *c, const Arguments *a);
int proxy_connect(Ctl *c, const Arguments *a);
int proxy_stop(Ctl *c, const Arguments *a);

/* What a call that failed means to a user of agent-proxy: no daemon, no such agent, or what the bus says. */
int proxy_fail(const Ctl *c, int r, const sd_bus_error *e, const char *agent, const char *doing);

/* --- what makes up the service --- */

/* Sockets first: with them stopped nothing starts the services again. */
extern const char *const proxy_units[];

typedef struct ProxyAddress {
        char *ip;               /* a literal */
        uint32_t port;
        bool ipv6, loopback;
} ProxyAddress;

void proxy_address_done(ProxyAddress *a);
/* ip and port as given, or NULL for the defaults. -EINVAL with *reterr. */
int proxy_address_parse(const char *ip, const char *port, ProxyAddress *ret, char **reterr);
/* What config.yaml says of it, as texts; NULL: nothing. */
typedef struct ProxySettings {
        char *ip, *port;
        bool has_key;
} ProxySettings;

void proxy_settings_done(ProxySettings *s);
/* name: for messages. -EBADMSG with *reterr = "<name>:<line>: …". */
int proxy_settings_parse(const char *name, const char *text, size_t size, ProxySettings *ret, char **reterr);
/* --ip and --port, else the settings', else the defaults; whether the settings hold a key. Exit status. */
int proxy_read_address(Ctl *c, const Arguments *a, const HomePaths *p, ProxyAddress *ret, bool *ret_has_key);
/* That lingering was off before enable turned it on. */
int proxy_linger_remember(const char *directory);
bool proxy_linger_is_remembered(const char *directory);
int proxy_linger_forget(const char *directory);
/* Says why that address is not served. EXIT_FAILURE. */
int proxy_refuse_open_address(const Ctl *c, const ProxyAddress *address);

/* "http://127.0.0.1:7011". NULL when out of memory. */
char* proxy_address_url(const ProxyAddress *a);
/* What the units say without a drop-in. */
bool proxy_address_is_default(const ProxyAddress *a);
/* Text of the drop-ins. */
char* proxy_listen_drop_in(const ProxyAddress *a);
char* proxy_key_drop_in(const char *key_file);

/* Writes text to <directory>/<unit>.d/<name>, or removes that (text NULL). > 0 when that changed something. */
int proxy_put_drop_in(const char *directory, const char *unit, const char *name, const char *text);
/* Where drop-ins belong that stay. */
int proxy_drop_in_directory(Scope scope, char **ret);

/* --- the service manager: synchronous, on the program's bus connection --- */

/* A call of its manager object; arguments as for sd_bus_message_append(). ret_reply may be NULL. Negative errno with
 * *reterr. */
int systemd_call(Ctl *c, sd_bus_error *reterr, sd_bus_message **ret_reply, const char *member, const char *types, ...);
/* Runs a job (StartUnit, StopUnit, RestartUnit) on each of a NULL-terminated list and waits for all of them. A unit
 * that is not there is stopped. -EIO with *reterr when one did not end as "done". */
int systemd_run_jobs(Ctl *c, sd_bus_error *reterr, const char *member, const char *const *units);
/* Starts sockets and services; changed: the gateway's socket is taken down before, or it would keep its old address.
 */
int proxy_start_service(Ctl *c, bool changed, sd_bus_error *reterr);
/* ActiveState and MainPID of a service or socket; "inactive" and 0 when there is none. */
int systemd_unit_state(Ctl *c, const char *unit, char **ret_state, uint32_t *ret_pid);
/* The agent's state that follows from its unit's ActiveState, SubState and, when active, StatusText (NULL: not known).
 */
const char* proxy_state_of_unit(const char *active, const char *sub, const char *text);
