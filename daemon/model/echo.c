/* SPDX-License-Identifier: MIT */

/* No model at all: says the last user message back word by word, so that everything around a model can be tried out
 * without a key. $PUFFO_ECHO_DELAY_MS (0 to 10000, 0 by default) is waited before each word, for watching a reply come
 * or interrupting it. */

#include "model-driver.h"

static bool is_blank(char ch) {
        return ch == ' ' || ch == '\t' || ch == '\n' || ch == '\r';
}

/* A word with the blanks behind it, so that the pieces add up to the text. */
static int echo_tick(ModelCall *c) {
        const char *start = c->echo_text + c->echo_offset, *p = start;
        int r;

        while (is_blank(*p))
                p++;
        while (*p && !is_blank(*p))
                p++;
        while (is_blank(*p))
                p++;

        r = model_call_say_text(c, start, (size_t) (p - start));
        if (r < 0)
                return r;
        c->echo_offset += (size_t) (p - start);
        return *p ? 0 : 1;
}

const ModelDriver echo_driver = {
        .default_model = "echo",
        .tick = echo_tick,
};
