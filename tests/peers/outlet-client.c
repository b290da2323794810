/* SPDX-License-Identifier: MIT */

/* A session's side of the model endpoint, and nothing else of the session.
 *
 *     outlet-client DIRECTORY
 *
 * DIRECTORY has an agent.yml; listens on DIRECTORY/model.sock and DIRECTORY/proxy.sock. Prints the token, then a JSON
 * object for each request that the provider has answered, and "exceeded KIND" when the budget is used up. Reads
 * "reload" and "token" (prints a new one) from standard input, and ends with it. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "event-util.h"
#include "file-util.h"
#include "log.h"
#include "outlet.h"
#include "string-util.h"

static const char *directory;
static Budget *budget;
static Outlet *outlet;

static int get_config(SessionConfig **ret, void *userdata) {
        int r = session_config_load(ret, "rob", directory, NULL);

        return r < 0 ? r : MIN(budget_configure(budget, *ret), 0);
}

static void on_usage(Outlet *o, const OutletUsage *u, void *userdata) {
        (void) printf("{\"model\":\"%s\",\"status\":%u,\"input\":%" PRIu64 ",\"cached\":%" PRIu64
                      ",\"output\":%" PRIu64 ",\"estimated\":%s,\"cost\":%" PRIu64 "}\n", u->model, u->status,
                      u->usage.input_tokens, u->usage.cached_tokens, u->usage.output_tokens,
                      u->estimated ? "true" : "false", u->cost_micro);
        (void) fflush(stdout);
}

static void on_exceeded(Budget *b, const BudgetVerdict *v, void *userdata) {
        (void) printf("exceeded %s\n", v->kind == BUDGET_TOKENS ? "tokens" : "cost");
        (void) fflush(stdout);
}

static int on_order(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        char line[64];
        const char *token;
        ssize_t n = read(fd, line, sizeof(line) - 1);
        int r = 0;

        if (n <= 0)
                return sd_event_exit(sd_event_source_get_event(s), 0);
        line[n] = 0;
        if (streq(line, "reload\n"))
                r = outlet_reload(outlet);
        else if (streq(line, "token\n"))
                r = outlet_new_token(outlet, &token);
        if (r >= 0) {
                (void) printf("%s\n", streq(line, "token\n") ? token : "ok");
                (void) fflush(stdout);
        }
        return r < 0 ? sd_event_exit(sd_event_source_get_event(s), r) : 0;
}

static int listen_at(const char *name) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);

        if (snprintf(a.sun_path, sizeof(a.sun_path), "%s/%s", directory, name) >= (int) sizeof(a.sun_path))
                return -ENAMETOOLONG;
        (void) unlink(a.sun_path);
        if (fd < 0 || bind(fd, (struct sockaddr*) &a, sizeof(a)) < 0 || listen(fd, 64) < 0)
                return -errno;
        return fd;
}

static int run(sd_event *event) {
        _cleanup_free_ char *path = strjoin(directory, "/messages.db");
        _cleanup_(session_config_freep) SessionConfig *config = NULL;
        _cleanup_(sd_event_source_disable_unrefp) sd_event_source *input = NULL;
        Database *db = NULL;
        const char *token;
        int r;

        r = path ? database_open(&db, path, NULL) : -ENOMEM;
        if (r >= 0)
                r = budget_new(&budget, &(BudgetSpec) { .db = db, .on_exceeded = on_exceeded });
        if (r >= 0)
                r = get_config(&config, NULL);
        if (r >= 0)
                r = outlet_new(&outlet, &(OutletSpec) {
                        .event = event, .agent = "rob", .model_fd = listen_at("model.sock"),
                        .proxy_fd = listen_at("proxy.sock"), .program = OUTLET_PROGRAM, .idle_usec = 2 * USEC_PER_SEC,
                        .budget = budget, .get_config = get_config, .on_usage = on_usage,
                });
        if (r >= 0)
                r = outlet_new_token(outlet, &token);
        if (r >= 0)
                r = sd_event_add_io(event, &input, STDIN_FILENO, EPOLLIN, on_order, NULL);
        if (r >= 0) {
                (void) printf("%s\n", token);
                (void) fflush(stdout);
                r = sd_event_loop(event);
        }
        (void) outlet_free(outlet);
        (void) budget_free(budget);
        (void) database_free(db);
        return r;
}

int main(int argc, char **argv) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        sigset_t mask;
        int r;

        log_open("outlet-client");
        if (argc != 2)
                return EXIT_FAILURE;
        directory = argv[1];
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return EXIT_FAILURE;
        r = sd_event_default(&event);
        if (r >= 0)
                r = run(event);
        if (r < 0)
                (void) log_error_errno(r, "Failed: %m");
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
