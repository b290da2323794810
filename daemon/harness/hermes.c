/* SPDX-License-Identifier: MIT */

/* Hermes (agent-runtime §13.2): a process for each turn, which is told the text on its command line and prints its
 * answer, with some lines about itself among those of the answer. */

#include "harness-driver.h"

/* The kernel's limit for one argument. */
#define ARGUMENT_MAX KIB(128)
#define TEXT_MAX MIB(16)
#define MODEL_DEFAULT "anthropic/claude-opus-4-6"
#define MODEL_DEFAULT_OPENAI "gpt-4o"
#define LOST_WORDS "No previous CLI session found to continue"
#define RESUMED_WORDS "\xe2\x86\xbb"                             /* ↻ */
#define NORMALIZED_WORDS "\xe2\x9a\xa0\xef\xb8\x8f"              /* ⚠️ */

typedef struct Hermes {
        bool resumed;
        char *session_id, *resumed_id;  /* as it was printed; NULL: not yet */
        StrBuf text;
        bool complete;                  /* nothing of what it has printed is missing */
} Hermes;

/* ---- launch ---- */

static bool is_openai(const HarnessSetup *s) {
        return streq(strempty(s->provider), "openai");
}

static int launch_add_model(const HarnessSetup *s, HarnessLaunch *l) {
        _cleanup_free_ char *model = launch_model(s->model), *full = NULL;
        const char *name;

        if (!model)
                return -ENOMEM;
        /* Of names with a vendor's in front only collections of many vendors know. */
        if (is_openai(s)) {
                name = startswith(model, "openai/") ?: model;
                return launch_add_value(l, "--model", isempty(name) ? MODEL_DEFAULT_OPENAI : name);
        }
        full = !*model ? strdup(MODEL_DEFAULT) : strchr(model, '/') ? strdup(model) : strjoin("anthropic/", model);
        if (!full)
                return -ENOMEM;
        return launch_add_value(l, "--model", full);
}

/* It knows no other way to be told who it is; what is in its conversation already is not said again. */
static int launch_add_text(const HarnessSetup *s, HarnessLaunch *l) {
        bool whole = s->session_id || isempty(s->system_prompt);
        _cleanup_free_ char *text = whole ? strdup(strempty(s->prompt)) :
                                            strjoin(s->system_prompt, "\n\n---\n\n", strempty(s->prompt));

        if (!text)
                return -ENOMEM;
        if (strlen(text) + sizeof("--query=") > ARGUMENT_MAX)
                return -E2BIG;
        return launch_add_value(l, "--query", text);
}

static int hermes_launch(const HarnessSetup *s, HarnessLaunch *l) {
        const char *name = strrchr(s->home, '/');
        _cleanup_free_ char *source = strjoin("puffoagent:", name ? name + 1 : s->home);
        int r;

        if (!source)
                return -ENOMEM;
        r = launch_add(l, "chat");
        if (r >= 0)
                r = launch_add_value(l, "--provider", is_openai(s) ? "openai-api" : "anthropic");
        if (r >= 0)
                r = launch_add(l, "--quiet");
        if (r >= 0)
                r = launch_add_value(l, "--source", source);
        if (r >= 0)
                r = launch_add_model(s, l);
        if (r >= 0 && s->session_id)
                r = launch_add(l, "--continue");
        if (r >= 0)
                r = launch_add_text(s, l);
        if (r >= 0 && !isempty(s->model_token) && is_openai(s)) {
                r = launch_set(l, "OPENAI_BASE_URL", "http://127.0.0.1:{model_port}/v1");
                return r < 0 ? r : launch_set(l, "OPENAI_API_KEY", s->model_token);
        }
        if (r >= 0 && !isempty(s->model_token)) {
                r = launch_set(l, "ANTHROPIC_BASE_URL", "http://127.0.0.1:{model_port}");
                if (r >= 0)
                        r = launch_set(l, "ANTHROPIC_API_KEY", s->model_token);
        }
        return r;
}

/* ---- turns ---- */

static void hermes_free(Harness *h) {
        Hermes *m = h->state;

        strbuf_done(&m->text);
        free(m->session_id);
        free(m->resumed_id);
        h->state = mfree(m);
}

static int hermes_start(Harness *h, const HarnessSetup *s) {
        Hermes *m;

        h->state = m = new0(Hermes, 1);
        if (!m)
                return -ENOMEM;
        m->resumed = s->session_id;
        m->complete = !h->adopted;
        return 0;
}

/* All of its answer is still in the pipe: each line stays there until the end. */
static int hermes_adopt_turn(Harness *h, const char *last_message) {
        ((Hermes*) h->state)->complete = true;
        return 0;
}

static int hermes_turn(Harness *h, const char *text) {
        h->closing = true;              /* there is nothing for it to read */
        return 0;
}

/* A line about the program itself: "session_id: X". NULL: it is none; *ret_size: of the word. */
static const char* word_behind(const char *line, const char *prefix, size_t *ret_size) {
        const char *word = startswith(line, prefix);

        if (!word)
                return NULL;
        word += strspn(word, " \t");
        *ret_size = strcspn(word, " \t\r");
        return *ret_size > 0 ? word : NULL;
}

static int note_id(char **id, const char *word, size_t size) {
        char *copy = memdup0(word, size);

        if (!copy)
                return -ENOMEM;
        free(*id);
        *id = copy;
        return 1;
}

static const char* skip_blanks(const char *s) {
        while (*s == ' ' || *s == '\t')
                s++;
        return s;
}

/* > 0: the line is about the program itself, and no part of the answer. */
static int hermes_take_word(Hermes *m, const char *line) {
        const char *word, *rest;
        size_t size;

        word = word_behind(line, "session_id:", &size);
        rest = word ? word + size : "";
        if (word && rest[strspn(rest, " \t\r")] == 0)
                return note_id(&m->session_id, word, size);

        rest = startswith(line, RESUMED_WORDS);
        word = rest ? word_behind(skip_blanks(rest), "Resumed session ", &size) : NULL;
        if (word)
                return m->resumed_id ? 1 : note_id(&m->resumed_id, word, size);

        rest = startswith(line, NORMALIZED_WORDS);
        if (rest && (*rest == ' ' || *rest == '\t') && startswith(skip_blanks(rest), "Normalized model "))
                return 1;
        /* What such a line is broken into. */
        size = strspn(line, "abcdefghijklmnopqrstuvwxyz0123456789-");
        return size > 0 && line[size] == '.' && line[size + 1 + strspn(line + size + 1, "\r")] == 0;
}

static int hermes_line(Harness *h, const char *line, size_t size) {
        _cleanup_free_ char *copy = NULL;
        Hermes *m = h->state;
        int r;

        if (h->turn != TURN_RUNNING)
                return 0;
        harness_keep_line(h);
        copy = memdup0(line, strlen(line));     /* not behind a NUL */
        if (!copy)
                return -ENOMEM;
        (void) utf8_repair(copy);
        harness_say_progress(h);
        r = hermes_take_word(m, copy);
        if (r != 0)
                return MIN(r, 0);
        if (m->text.size + strlen(copy) >= TEXT_MAX)
                return harness_end_turn(h, &(HarnessResult) {
                        .outcome = HARNESS_PROTOCOL,
                        .message = "Its answer has no end.",
                        .started = true,
                });
        r = strbuf_puts(&m->text, copy);
        return r < 0 ? r : strbuf_append(&m->text, "\n", 1);
}

/* Newer versions say here what the conversation is called. */
static int hermes_error_line(Harness *h, const char *line, size_t size) {
        Hermes *m = h->state;
        const char *word = word_behind(line, "session_id:", &size);

        if (!word || word[size + strspn(word + size, " \t\r")] != 0 || !utf8_is_valid(word, size))
                return 0;
        return note_id(&m->session_id, word, size);
}

static char* stripped(const char *text) {
        size_t n;

        text = strempty(text);
        text += strspn(text, " \t\r\n");
        n = strlen(text);
        while (n > 0 && strchr(" \t\r\n", text[n - 1]))
                n--;
        return memdup0(text, n);
}

static int say_answer(Harness *h, const char *text) {
        _cleanup_free_ char *id = h->turn_name ? strdup(h->turn_name) : random_hex(8);
        int r;

        if (!id)
                return -ENOMEM;
        r = harness_say_message_begin(h, id);
        if (r >= 0 && !h->dead)
                r = harness_say_text(h, text, strlen(text));
        if (r >= 0 && !h->dead)
                r = harness_say_message_end(h, id, text);
        return r;
}

/* Its exit status is not seen here: no answer is a failure, and what it prints before it has begun is known. */
static int hermes_eof(Harness *h) {
        _cleanup_free_ char *text = NULL, *tail = NULL;
        Hermes *m = h->state;
        HarnessResult result = { .outcome = HARNESS_GONE, .started = true };
        int r;

        if (h->turn != TURN_RUNNING)
                return 0;
        text = stripped(m->text.text);
        tail = harness_error_tail(h);
        if (!text || !tail)
                return -ENOMEM;

        if (m->resumed && !m->session_id && !m->resumed_id &&
            (startswith(text, LOST_WORDS) || (!*text && startswith(tail, LOST_WORDS)))) {
                result = (HarnessResult) { .outcome = HARNESS_LOST_SESSION, .message = LOST_WORDS };
                return harness_end_turn(h, &result);
        }
        if (!m->complete || !*text) {
                result.message = tail;
                result.started = m->session_id || m->resumed_id;
                return harness_end_turn(h, &result);
        }

        /* Without an id, too, there is now a conversation to go on with: the latest. */
        r = harness_say_session(h, m->session_id ?: strempty(m->resumed_id));
        if (r >= 0 && !h->dead)
                r = say_answer(h, text);
        result.outcome = HARNESS_DONE;
        result.message = "";
        return r < 0 || h->dead ? r : harness_end_turn(h, &result);
}

const HarnessDriver hermes_driver = {
        .name = "hermes",
        .per_turn = true,
        .told_by_launch = true,
        .launch = hermes_launch,
        .start = hermes_start,
        .free = hermes_free,
        .turn = hermes_turn,
        .adopt_turn = hermes_adopt_turn,
        .line = hermes_line,
        .error_line = hermes_error_line,
        .eof = hermes_eof,
};
