/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "hands-login.h"
#include "log.h"
#include "string-util.h"

/* The clock is somebody else's, and several agents had better ask together: whoever comes first does it for all. */
#define ACCURACY_USEC (5 * USEC_PER_SEC)

struct HandsLogin {
        HandsLoginSpec spec;
        CliLogin login;                 /* as last seen */
        uint64_t attempt_usec;          /* CLOCK_REALTIME; 0: none yet */
        uint64_t refused_usec;          /* the login that expires then is not refreshed any more; 0: none */
        CliCall *call;                  /* a refresh that is under way */
        sd_event_source *due;
};

static int on_due(sd_event_source *s, uint64_t usec, void *userdata);

static int arm(HandsLogin *l) {
        uint64_t due = cli_login_refresh_usec(&l->login, l->attempt_usec), now = now_realtime_usec();

        if (due == USEC_INFINITY || l->call || l->login.expires_usec == l->refused_usec)
                return l->due ? sd_event_source_set_enabled(l->due, SD_EVENT_OFF) : 0;
        return event_arm_timer(l->spec.event, &l->due, due > now ? due - now : 0, ACCURACY_USEC, on_due, l);
}

static void look_again(HandsLogin *l) {
        CliLogin login;
        int r;

        r = l->spec.sync(&login, l->spec.userdata);
        if (r >= 0)
                l->login = login;
        if (r >= 0)
                r = arm(l);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to look at the login again, ignoring: %m");
}

static void on_refreshed(int error, const char *result, void *userdata) {
        HandsLogin *l = userdata;
        bool logged_out = error >= 0 && streq(result, "auth-failed");

        l->call = l->spec.backend->call_free(l->call);
        l->attempt_usec = now_realtime_usec();
        if (error < 0)
                (void) log_warning_errno(error, "The login could not be refreshed: %m");
        else if (!streq(result, "ok") && !streq(result, "not-needed"))
                log_warning("The login could not be refreshed: %s.", result);
        if (logged_out)
                l->refused_usec = l->login.expires_usec;
        look_again(l);
        l->spec.on_done(logged_out, l->spec.userdata);
}

static int ask(HandsLogin *l) {
        return l->call ? 0 : l->spec.backend->refresh(on_refreshed, l, &l->call, l->spec.backend->userdata);
}

static int on_due(sd_event_source *s, uint64_t usec, void *userdata) {
        HandsLogin *l = userdata;
        int r;

        /* It may have been done for another agent, or by the operator himself. */
        look_again(l);
        if (cli_login_refresh_usec(&l->login, l->attempt_usec) > now_realtime_usec())
                return 0;
        r = ask(l);
        if (r < 0) {
                (void) log_warning_errno(r, "Failed to have the login refreshed, trying again later: %m");
                l->attempt_usec = now_realtime_usec();
        }
        r = arm(l);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
        return 0;
}

int hands_login_use(HandsLogin *l, const CliLogin *login) {
        bool due;
        int r;

        l->login = *login;
        if (!l->spec.backend->refresh)
                return 0;
        due = login->state == CLI_LOGIN_EXPIRED && login->expires_usec != l->refused_usec &&
              cli_login_refresh_usec(login, l->attempt_usec) <= now_realtime_usec();
        if (due) {
                r = ask(l);
                if (r < 0)
                        return r;
        }
        r = arm(l);
        return r < 0 ? r : login->state == CLI_LOGIN_EXPIRED && l->call;
}

bool hands_login_is_there(HandsLogin *l) {
        look_again(l);
        return l->login.state != CLI_LOGIN_MISSING;
}

int hands_login_new(HandsLogin **ret, const HandsLoginSpec *spec) {
        HandsLogin *l = new0(HandsLogin, 1);

        if (!l)
                return -ENOMEM;
        l->spec = *spec;
        *ret = l;
        return 0;
}

HandsLogin* hands_login_free(HandsLogin *l) {
        if (!l)
                return NULL;
        if (l->call)
                (void) l->spec.backend->call_free(l->call);
        sd_event_source_disable_unref(l->due);
        return mfree(l);
}
