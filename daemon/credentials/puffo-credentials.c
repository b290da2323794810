/* SPDX-License-Identifier: MIT */

/* puffo-credentials@PROVIDER.service: refreshes the operator's login with a provider, and says on standard output in a
 * word what came of it. */

#include <stdio.h>
#include <unistd.h>

#include "event-util.h"
#include "log.h"
#include "refresh.h"
#include "string-util.h"

/* The unit's own limit, 120 s, is for when this one does not hold. */
#define TIMEOUT_USEC (110 * USEC_PER_SEC)
#define SHOWN_MAX 400U

static _Noreturn void usage(FILE *f, int status) {
        fprintf(f, "puffo-credentials anthropic\n\n"
                   "Refreshes the login with a provider when it expires within five minutes. Started by puffod.\n");
        exit(status);
}

static void log_tail(const char *what, const char *text) {
        size_t n = strlen(strempty(text)), skip = n > SHOWN_MAX ? n - SHOWN_MAX : 0;
        _cleanup_free_ char *shown = n > 0 ? str_printable(text + skip, SHOWN_MAX) : NULL;

        if (shown)
                log_warning("%s: %s", what, shown);
}

static void report(const Refresh *f) {
        uint64_t now = now_realtime_usec();

        switch (f->result) {
        case REFRESH_OK:
                if (f->expires_after_usec == USEC_INFINITY || f->expires_after_usec <= f->expires_before_usec)
                        log_warning("The CLI has run, and the login with Anthropic holds no longer than before.");
                else
                        log_info("The login with Anthropic has been refreshed and holds for %" PRIu64 " minutes.",
                                 f->expires_after_usec > now ? (f->expires_after_usec - now) / USEC_PER_SEC / 60 : 0);
                return;
        case REFRESH_AUTH_FAILED:
                log_error("The login with Anthropic does not hold any more: log in again with 'claude /login'.");
                break;
        case REFRESH_FAILED:
                if (f->exit_status < 0)
                        log_warning("The login with Anthropic could not be refreshed: the CLI took longer than %u s.",
                                    (unsigned) (TIMEOUT_USEC / USEC_PER_SEC));
                else
                        log_warning("The login with Anthropic could not be refreshed: the CLI ended with %d.",
                                    f->exit_status);
                break;
        default:
                log_info("The login with Anthropic was not refreshed: %s.", refresh_result_to_string(f->result));
                return;
        }
        log_tail("Its output", f->output);
        log_tail("Its errors", f->errors);
}

int main(int argc, char *argv[]) {
        _cleanup_(refresh_done) Refresh f = {};
        RefreshSpec spec = {
                .user_home = getenv("HOME"), .path = getenv("PATH"), .environment = environ,
                .timeout_usec = TIMEOUT_USEC,
        };
        int r;

        log_open("puffo-credentials");
        if (argc == 2 && (streq(argv[1], "-h") || streq(argv[1], "--help")))
                usage(stdout, 0);
        if (argc != 2 || !streq(argv[1], "anthropic"))
                usage(stderr, 2);
        if (isempty(spec.user_home) || *spec.user_home != '/') {
                log_error("$HOME is not set.");
                return 1;
        }

        r = refresh_run(&spec, &f);
        if (r < 0) {
                f.result = REFRESH_FAILED;
                if (r == -ENOENT)
                        log_error("The login with Anthropic could not be refreshed: there is no 'claude' here.");
                else
                        (void) log_error_errno(r, "The login with Anthropic could not be refreshed: %m");
        } else
                report(&f);
        printf("%s\n", refresh_result_to_string(f.result));
        (void) fflush(stdout);
        return f.result == REFRESH_AUTH_FAILED || f.result == REFRESH_FAILED;
}
