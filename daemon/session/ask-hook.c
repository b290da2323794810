/* SPDX-License-Identifier: MIT */

#include "ask-hook.h"

#ifdef TEST_HOOKS

#include <fcntl.h>
#include <sys/queue.h>

#include "file-util.h"
#include "json-util.h"
#include "log.h"
#include "string-util.h"

#define FILE_SIZE_MAX MIB(4)

typedef struct Ask {
        AskHook *hook;
        char *name;
        ApprovalWait *wait;
        LIST_ENTRY(Ask) asks;
} Ask;

struct AskHook {
        Approvals *approvals;
        char *asks_path, *verdicts_path;
        LIST_HEAD(, Ask) asks;
};

static void ask_free(Ask *a) {
        LIST_REMOVE(a, asks);
        approval_wait_free(a->wait);
        free(a->name);
        free(a);
}

static int write_verdict(AskHook *h, const char *ask, const char *state, bool allow, const char *message) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *line = NULL;
        _cleanup_close_ int fd = -EBADF;

        if (!o || json_put_string(o, "ask", ask) < 0 || json_put_string(o, "state", state) < 0 ||
            json_put_bool(o, "allow", allow) < 0 || json_put_string(o, "message", message) < 0)
                return -ENOMEM;
        line = strjoin(json_text(o, NULL), "\n");
        if (!line)
                return -ENOMEM;
        fd = open(h->verdicts_path, O_WRONLY|O_CREAT|O_APPEND|O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        return write(fd, line, strlen(line)) == (ssize_t) strlen(line) ? 0 : -EIO;
}

static int on_done(ApprovalWait *w, const ApprovalVerdict *verdict, void *userdata) {
        Ask *a = userdata;
        int r = write_verdict(a->hook, a->name, approval_state_to_string(verdict->state), verdict->allow,
                              verdict->message);

        ask_free(a);
        return r;
}

static bool is_asked(AskHook *h, const char *name) {
        const Ask *a;

        LIST_FOREACH(a, &h->asks, asks)
                if (streq(a->name, name))
                        return true;
        return false;
}

static int ask(AskHook *h, json_object *o) {
        const char *name = strempty(json_get_string(o, "ask"));
        json_object *input = json_get(o, "input");
        Ask *a;
        int r;

        if (is_asked(h, name))
                return 0;
        a = new0(Ask, 1);
        if (!a)
                return -ENOMEM;
        a->hook = h;
        a->name = strdup(name);
        LIST_INSERT_HEAD(&h->asks, a, asks);
        r = !a->name ? -ENOMEM : approvals_ask(h->approvals, &(ApprovalRequest) {
                .turn = json_get_string(o, "turn"), .ask = name, .tool = json_get_string(o, "tool"),
                .input = input ? json_object_to_json_string_ext(input, JSON_C_TO_STRING_PLAIN) : NULL,
        }, on_done, a, &a->wait);
        if (r < 0) {
                ask_free(a);
                return write_verdict(h, name, "refused", false, strerror(-r));
        }
        return 0;
}

static int look(AskHook *h) {
        _cleanup_free_ char *text = NULL, *verdicts = NULL;
        char *line, *rest;
        int r;

        r = file_read(h->asks_path, FILE_SIZE_MAX, &text, NULL);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        r = file_read(h->verdicts_path, FILE_SIZE_MAX, &verdicts, NULL);
        if (r < 0 && r != -ENOENT)
                return r;
        rest = text;
        while ((line = strsep(&rest, "\n"))) {
                _cleanup_json_ json_object *o = NULL;
                _cleanup_free_ char *answered = NULL;

                if (!*line)
                        continue;
                r = json_parse(line, strlen(line), &o);
                if (r < 0)
                        return r;
                answered = strjoin("{\"ask\":\"", strempty(json_get_string(o, "ask")), "\",");
                if (!answered)
                        return -ENOMEM;
                if (verdicts && strstr(verdicts, answered))
                        continue;
                r = ask(h, o);
                if (r < 0)
                        return r;
        }
        return 0;
}

void ask_hook_look(AskHook *h, const char *name) {
        int r;

        if (!h || !streq(name, "asks"))
                return;
        r = look(h);
        if (r < 0)
                (void) log_error_errno(r, "Failed to ask what a test wants to be asked: %m");
}

int ask_hook_new(AskHook **ret, Approvals *approvals, const char *directory) {
        AskHook *h = new0(AskHook, 1);

        if (!h)
                return -ENOMEM;
        *h = (AskHook) {
                .approvals = approvals, .asks_path = path_join(directory, "asks"),
                .verdicts_path = path_join(directory, "verdicts"),
        };
        LIST_INIT(&h->asks);
        if (!h->asks_path || !h->verdicts_path) {
                ask_hook_free(h);
                return -ENOMEM;
        }
        ask_hook_look(h, "asks");
        *ret = h;
        return 0;
}

AskHook* ask_hook_free(AskHook *h) {
        if (!h)
                return NULL;
        while (!LIST_EMPTY(&h->asks))
                ask_free(LIST_FIRST(&h->asks));
        free(h->asks_path);
        free(h->verdicts_path);
        return mfree(h);
}

#endif
