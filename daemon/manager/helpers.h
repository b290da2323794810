/* SPDX-License-Identifier: MIT */
#pragma once

#include "manager.h"

/* polkit.c ------------------------------------------------------------------------------------------------------ */

int polkit_new(Polkit **ret, Manager *m);
Polkit* polkit_free(Polkit *p);

/* May the sender of call do this? > 0: yes. 0: polkit has been asked; return 1 from the method, which will be run
 * again from its top. < 0: no, with *reterr_error. In user mode: the same user, without asking. owner: of the agent in
 * question, or (uid_t) -1. agent: its id for the dialogue, or NULL. */
int polkit_verify_async(Manager *m, sd_bus_message *call, const char *action, const char *agent, uid_t owner,
                        sd_bus_error *reterr_error);

/* The same for what is not worth a question to a person. > 0: *ret_authorized is the answer. */
int polkit_ask_quietly(Manager *m, sd_bus_message *call, const char *action, bool *ret_authorized,
                       sd_bus_error *reterr_error);

/* reader.c ------------------------------------------------------------------------------------------------------ */

/* From now on callers that read properties are looked at first. */
int reader_watch(Manager *m);
/* Finds out what the sender of call may see, in what is agent's or, NULL, anybody's. > 0: reader_sees() knows, until
 * call has been dispatched. 0: polkit has been asked; return 1 from the method, as with polkit_verify_async(). */
int reader_identify(Manager *m, sd_bus_message *call, const Agent *agent, sd_bus_error *reterr_error);
/* May it be shown to whoever reads now? In user mode always; in signals, which everybody receives, otherwise never. */
bool reader_sees(const Manager *m, uid_t owner);
/* For getters of what is not to be seen: an error when just that is read, else 0: show nothing in its place. */
int reader_refuse(const Manager *m, const char *what, sd_bus_error *reterr_error);

/* credentials.c ------------------------------------------------------------------------------------------------- */

/* listen_fd is taken over, on failure too. */
int credential_server_new(CredentialServer **ret, Manager *m, int listen_fd);
CredentialServer* credential_server_free(CredentialServer *s);
/* Takes no more connections: they are for the next puffod. s may be NULL. */
void credential_server_pause(CredentialServer *s);
/* "\0<random>/unit/<unit>/<credential>", as the service manager binds its end, into its parts. -EBADMSG. */
int credential_name_parse(const char *path, size_t size, char **ret_unit, char **ret_credential);

/* state-link.c -------------------------------------------------------------------------------------------------- */

#define STATE_LINKS "/var/lib/puffo"

/* Removes links to state directories of agents that are gone; how many. */
unsigned state_links_sweep(const char *directory);

/* home-watch.c -------------------------------------------------------------------------------------------------- */

int home_watch_new(HomeWatch **ret, Manager *m);
HomeWatch* home_watch_free(HomeWatch *w);
/* Watches exactly the directories that are there now, as far as the kernel lets it. */
int home_watch_update(HomeWatch *w);
/* What keeps it from doing so, for a person; "": nothing. NULL: out of memory. */
char* home_watch_problem(const HomeWatch *w);

/* worker.c ------------------------------------------------------------------------------------------------------ */

/* Runs fn in a child process, because it may take long, and calls back with its result: r, and the text that it gave.
 * fn must not touch the bus or the loop. args are used in the child only; what they point to must live until fork().
 * timeout_usec: after that it is killed and r is -ETIME; 0: whenever. */
typedef int (*worker_function_t)(void *args, char **ret_text);
typedef void (*worker_done_t)(int r, const char *text, void *userdata);
int worker_run(sd_event *event, worker_function_t fn, void *args, uint64_t timeout_usec, worker_done_t done,
               void *userdata);

/* Archives are read from and written to what a caller has passed, which may be in a file system that he makes himself
 * and never answer: so many at a time, so long. */
#define TRANSFERS_OF_USER_MAX 4U        /* in system mode */
#define TRANSFER_TIME_USEC (30 * 60 * USEC_PER_SEC)

/* < 0 with *reterr_error when there are too many already, of this user or of all. What was begun is to be ended. */
int transfer_begin(Manager *m, uid_t uid, sd_bus_error *reterr_error);
void transfer_end(Manager *m, uid_t uid);
