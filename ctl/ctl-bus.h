/* SPDX-License-Identifier: MIT */
#pragma once

#include "bus-util.h"
#include "ctl.h"

/* Calls to puffod. Each connects if need be. Negative errno, with reterr filled; what to print is the caller's
 * business (ctl_fail_bus()). */

/* A call that waits for an agent to start or stop takes as long as that does. */
#define SYSTEMD_NO_SUCH_UNIT "org.freedesktop.systemd1.NoSuchUnit"
#define SYSTEMD_UNIT_MASKED "org.freedesktop.systemd1.UnitMasked"
#define CTL_CALL_TIMEOUT_USEC (25 * USEC_PER_SEC)
#define CTL_START_TIMEOUT_USEC (90 * USEC_PER_SEC)
#define CTL_STOP_TIMEOUT_USEC (15 * 60 * USEC_PER_SEC)

/* Connects to the bus of the scope, or of the other machine, when there is no connection yet. */
int ctl_connect(Ctl *c, sd_bus_error *reterr);
void ctl_disconnect(Ctl *c);

/* An empty call that is started with arguments appended by the caller. */
int ctl_new_call(Ctl *c, sd_bus_message **ret, sd_bus_error *reterr, const char *path, const char *interface,
                 const char *member);
int ctl_send_call(Ctl *c, sd_bus_message *m, uint64_t timeout_usec, sd_bus_error *reterr, sd_bus_message **ret_reply);
/* Both in one, arguments as for sd_bus_message_append(). ret_reply may be NULL. */
int ctl_call_manager(Ctl *c, sd_bus_error *reterr, sd_bus_message **ret_reply, uint64_t timeout_usec,
                     const char *member, const char *types, ...);
int ctl_call_agent(Ctl *c, const char *id, sd_bus_error *reterr, sd_bus_message **ret_reply, uint64_t timeout_usec,
                   const char *member, const char *types, ...);
int ctl_new_agent_call(Ctl *c, const char *id, sd_bus_message **ret, sd_bus_error *reterr, const char *member);

/* An object's properties of one interface, as JSON with names like main_pid. start: the daemon may be started for it.
 */
int ctl_get_properties(Ctl *c, const char *path, const char *interface, bool start, sd_bus_error *reterr,
                       json_object **ret);
int ctl_get_agent(Ctl *c, const char *id, sd_bus_error *reterr, json_object **ret);
/* All agents (as above), manager first, then by id. */
int ctl_get_agents(Ctl *c, bool start, sd_bus_error *reterr, json_object **ret);

/* Their order, for json_object_array_sort(). */
int ctl_compare_agents(const void *a, const void *b);

/* The error says that there is no daemon and none could be started. */
bool ctl_daemon_is_down(int r, const sd_bus_error *e);
/* The connection or the daemon went away while a call was under way: it may have been done or not. */
bool ctl_reply_was_lost(int r, const sd_bus_error *e);

/* Calls that pass descriptors do not go through ssh. 0, or the exit status of having said so. */
int ctl_need_descriptors(Ctl *c, const char *what);

/* Reads the next complete type of m as JSON: dictionaries with string keys as objects, structs and arrays as arrays.
 */
int bus_message_to_json(sd_bus_message *m, json_object **ret);

/* Dictionary entries of an a{sv}. A NULL string is left out. */
int bus_append_string_option(sd_bus_message *m, const char *key, const char *value);
int bus_append_bool_option(sd_bus_message *m, const char *key, bool value);
int bus_append_number_option(sd_bus_message *m, const char *key, uint32_t value);
int bus_append_strings_option(sd_bus_message *m, const char *key, char *const *values);
