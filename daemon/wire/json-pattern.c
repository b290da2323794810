/* SPDX-License-Identifier: MIT */

#include "json-pattern.h"
#include "json-plain.h"

static bool put(JsonPattern *t, size_t n, uint8_t literal, uint8_t free) {
        if (n > JSON_PATTERN_SIZE - t->size)
                return false;
        memset(t->literal + t->size, literal, n);
        memset(t->free + t->size, free, n);
        t->size += n;
        return true;
}

static bool put_literal(JsonPattern *t, const char *s, size_t n) {
        const size_t at = t->size;

        if (!put(t, n, 0xff, 0))
                return false;
        memcpy(t->text + at, s, n);
        return true;
}

static bool put_free(JsonPattern *t, size_t n) {
        return put(t, n, 0, 0xff);
}

/* Each member is {"key":"text" or ,"key":"text" there. */
static bool put_member(JsonPattern *t, const SignedValue *m, size_t i) {
        if (m->type != SIGNED_STRING ||
            json_plain_length(m->key, m->key + m->key_size, /* ascii= */ false) != m->key_size)
                return false;
        if (!put_literal(t, i == 0 ? "{\"" : ",\"", 2) || !put_literal(t, m->key, m->key_size) ||
            !put_literal(t, "\":\"", 3))
                return false;
        t->begin[i] = (uint16_t) t->size;
        if (!put_free(t, m->size))
                return false;
        t->end[i] = (uint16_t) t->size;
        return put_literal(t, "\"", 1);
}

bool json_pattern_init(JsonPattern *t, const SignedValue *v) {
        size_t i = 0;

        if (v->type != SIGNED_OBJECT || v->size == 0 || v->size > JSON_PATTERN_MEMBERS)
                return false;
        t->first = v;
        t->size = 0;
        for (const SignedValue *m = v->child; m; m = m->next, i++)
                if (!put_member(t, m, i))
                        return false;
        if (!put_literal(t, "}", 1))
                return false;
        /* What fills up the last sixteen is neither. */
        i = t->size;
        (void) put(t, -t->size % sizeof(Bytes16), 0, 0);
        t->size = i;
        return true;
}

bool json_pattern_matches(const JsonPattern *t, const char *p, const char *end) {
        Bytes16 bad = {}, text, literal, free;
        uint64_t words[2];

        static_assert(JSON_PATTERN_SIZE % sizeof(Bytes16) == 0);

        /* Sixteen at a time, so there must be some more than are asked about. */
        if ((size_t) (end - p) < (t->size + 15) / 16 * 16)
                return false;
        for (size_t i = 0; i < t->size; i += sizeof(Bytes16)) {
                Bytes16 b;

                memcpy(&b, p + i, sizeof(b));
                memcpy(&text, t->text + i, sizeof(text));
                memcpy(&literal, t->literal + i, sizeof(literal));
                memcpy(&free, t->free + i, sizeof(free));
                bad |= ((b ^ text) & literal) | (json_special16(b) & free);
        }
        memcpy(words, &bad, sizeof(words));
        return !(words[0] | words[1]);
}
