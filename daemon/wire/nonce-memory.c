/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "base64url.h"
#include "nonce-memory.h"

#define DIGEST_SIZE 16U
#define DIGEST_TEXT_SIZE 22U
#define TABLE_MIN 64U

/* Nonces are as long as a header may be: a hash of fixed size stands for each. */
typedef struct Digest {
        uint8_t bytes[DIGEST_SIZE];
} Digest;

typedef struct Entry {
        Digest digest;
        int64_t until_ms;
} Entry;

/* A set of digests (open addressing, linear probing, at most half full) for finding them, and a heap of the same ones,
 * the earliest end on top, for forgetting them. */
struct NonceMemory {
        Entry *heap;
        Digest *table;
        bool *taken;
        size_t size, allocated, max, table_size;        /* table_size: a power of two, or 0 */
};

int nonce_memory_new(NonceMemory **ret, size_t max) {
        NonceMemory *m = new0(NonceMemory, 1);

        if (!m)
                return -ENOMEM;
        m->max = max ?: NONCE_MEMORY_MAX;
        *ret = m;
        return 0;
}

NonceMemory* nonce_memory_free(NonceMemory *m) {
        if (!m)
                return NULL;

        free(m->heap);
        free(m->table);
        free(m->taken);
        return mfree(m);
}

size_t nonce_memory_size(const NonceMemory *m) {
        return m->size;
}

/* Neither text contains NUL, so no two pairs give the same bytes. */
static Digest digest_of(const char *signer_id, const char *nonce) {
        crypto_generichash_state state;
        Digest d;

        (void) crypto_generichash_init(&state, NULL, 0, sizeof(d.bytes));
        (void) crypto_generichash_update(&state, (const uint8_t*) signer_id, strlen(signer_id) + 1);
        (void) crypto_generichash_update(&state, (const uint8_t*) nonce, strlen(nonce));
        (void) crypto_generichash_final(&state, d.bytes, sizeof(d.bytes));
        return d;
}

static size_t home_of(const Digest *d, size_t table_size) {
        uint64_t h;

        memcpy(&h, d->bytes, sizeof(h));
        return (size_t) h & (table_size - 1);
}

static bool same_digest(const Digest *a, const Digest *b) {
        return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

/* Where it is, or the free place where it would go. */
static size_t table_find(const NonceMemory *m, const Digest *d) {
        size_t i = home_of(d, m->table_size);

        while (m->taken[i] && !same_digest(&m->table[i], d))
                i = (i + 1) & (m->table_size - 1);
        return i;
}

static void table_remove(NonceMemory *m, const Digest *d) {
        const size_t mask = m->table_size - 1;
        size_t hole = table_find(m, d);

        /* Whatever would no longer be found past the hole moves into it. */
        for (size_t i = (hole + 1) & mask; m->taken[i]; i = (i + 1) & mask) {
                size_t home = home_of(&m->table[i], m->table_size);

                if (((i - home) & mask) < ((i - hole) & mask))
                        continue;
                m->table[hole] = m->table[i];
                hole = i;
        }
        m->taken[hole] = false;
}

static int table_reserve(NonceMemory *m, size_t n) {
        size_t size = m->table_size ?: TABLE_MIN;
        Digest *table;
        bool *taken;

        while (size / 2 < n)
                size *= 2;
        if (size == m->table_size)
                return 0;

        table = new0(Digest, size);
        taken = new0(bool, size);
        if (!table || !taken) {
                free(table);
                free(taken);
                return -ENOMEM;
        }
        free(m->table);
        free(m->taken);
        m->table = table;
        m->taken = taken;
        m->table_size = size;
        for (size_t i = 0; i < m->size; i++) {
                size_t at = table_find(m, &m->heap[i].digest);

                m->table[at] = m->heap[i].digest;
                m->taken[at] = true;
        }
        return 0;
}

static int heap_reserve(NonceMemory *m, size_t n) {
        size_t allocated = MAX(m->allocated * 2, (size_t) TABLE_MIN);
        Entry *heap;

        if (n <= m->allocated)
                return 0;
        heap = realloc(m->heap, allocated * sizeof(Entry));
        if (!heap)
                return -ENOMEM;
        m->heap = heap;
        m->allocated = allocated;
        return 0;
}

static void heap_push(NonceMemory *m, Entry e) {
        size_t i = m->size++;

        for (; i > 0 && m->heap[(i - 1) / 2].until_ms > e.until_ms; i = (i - 1) / 2)
                m->heap[i] = m->heap[(i - 1) / 2];
        m->heap[i] = e;
}

static void drop_first(NonceMemory *m) {
        Entry last;
        size_t i = 0;

        table_remove(m, &m->heap[0].digest);
        last = m->heap[--m->size];
        for (;;) {
                size_t child = 2 * i + 1;

                if (child >= m->size)
                        break;
                if (child + 1 < m->size && m->heap[child + 1].until_ms < m->heap[child].until_ms)
                        child++;
                if (last.until_ms <= m->heap[child].until_ms)
                        break;
                m->heap[i] = m->heap[child];
                i = child;
        }
        m->heap[i] = last;
}

static void forget_old(NonceMemory *m, int64_t now_ms) {
        while (m->size > 0 && m->heap[0].until_ms < now_ms)
                drop_first(m);
}

static bool contains(const NonceMemory *m, const Digest *d) {
        return m->size > 0 && m->taken[table_find(m, d)];
}

static int record(NonceMemory *m, const Digest *d, int64_t until_ms, int64_t now_ms) {
        size_t at;
        int r;

        forget_old(m, now_ms);
        if (contains(m, d))
                return -EEXIST;
        r = heap_reserve(m, MIN(m->size + 1, m->max));
        if (r >= 0)
                r = table_reserve(m, MIN(m->size + 1, m->max));
        if (r < 0)
                return r;
        if (m->size >= m->max)
                drop_first(m);

        at = table_find(m, d);
        m->table[at] = *d;
        m->taken[at] = true;
        heap_push(m, (Entry) { *d, until_ms });
        return 0;
}

bool nonce_memory_contains(NonceMemory *m, const char *signer_id, const char *nonce, int64_t now_ms) {
        Digest d = digest_of(signer_id, nonce);

        forget_old(m, now_ms);
        return contains(m, &d);
}

int nonce_memory_record(NonceMemory *m, const char *signer_id, const char *nonce, int64_t until_ms, int64_t now_ms) {
        Digest d = digest_of(signer_id, nonce);

        return record(m, &d, until_ms, now_ms);
}

/* A line each: the digest in base64url, a blank, the end in ms. */
int nonce_memory_format(const NonceMemory *m, StrBuf *b) {
        for (size_t i = 0; i < m->size; i++) {
                _cleanup_free_ char *text = base64url_encode(m->heap[i].digest.bytes, DIGEST_SIZE);
                int r = text ? strbuf_printf(b, "%s %" PRId64 "\n", text, m->heap[i].until_ms) : -ENOMEM;

                if (r < 0)
                        return r;
        }
        return 0;
}

int nonce_memory_load(NonceMemory *m, const char *text, size_t size, int64_t now_ms) {
        const char *end;

        if (size == 0)  /* and text may be NULL */
                return 0;
        end = text + size;
        for (const char *line = text, *newline; line < end; line = newline + 1) {
                char number[20] = {};
                uint64_t until;
                size_t n;
                Digest d;
                int r;

                newline = memchr(line, '\n', (size_t) (end - line));
                if (!newline)
                        return -EBADMSG;
                n = (size_t) (newline - line);
                if (n <= DIGEST_TEXT_SIZE + 1 || n - DIGEST_TEXT_SIZE - 1 >= sizeof(number) ||
                    line[DIGEST_TEXT_SIZE] != ' ')
                        return -EBADMSG;
                memcpy(number, line + DIGEST_TEXT_SIZE + 1, n - DIGEST_TEXT_SIZE - 1);
                if (parse_u64(number, &until) < 0 || until > INT64_MAX ||
                    base64url_decode_exact(line, DIGEST_TEXT_SIZE, d.bytes, DIGEST_SIZE) < 0)
                        return -EBADMSG;

                if ((int64_t) until < now_ms)
                        continue;
                r = record(m, &d, (int64_t) until, now_ms);
                if (r < 0 && r != -EEXIST)
                        return r;
        }
        return 0;
}
