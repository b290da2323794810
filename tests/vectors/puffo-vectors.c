/* SPDX-License-Identifier: MIT */

/* puffo-vectors FILE…: runs every case of vector files against the wire room. One line a failing case, then
 * "N passed, N failed"; exit status 1 when there are any. */

#include <stdio.h>

#include "base64url.h"
#include "crypto.h"
#include "file-util.h"
#include "vector.h"

const SignedValue *vector_file_root;

bool vector_bytes(const SignedValue *c, const char *key, Bytes *ret) {
        const SignedValue *v = signed_get(c, key);

        if (!v || v->type != SIGNED_STRING)
                return false;
        if (endswith(key, "_utf8")) {
                *ret = (Bytes) { memdup0(v->text, v->size), v->size };
                return ret->data;
        }
        if (!endswith(key, "_hex"))
                return base64url_decode(v->text, v->size, &ret->data, &ret->size) >= 0;

        *ret = (Bytes) { malloc(v->size / 2 + 1), v->size / 2 };
        for (size_t i = 0; i < ret->size; i++) {
                unsigned byte;

                if (sscanf(v->text + 2 * i, "%2x", &byte) != 1)
                        return false;
                ret->data[i] = (uint8_t) byte;
        }
        return v->size % 2 == 0;
}

bool bytes_equal(const Bytes *a, const void *data, size_t size) {
        return a->size == size && memcmp(a->data, data, size) == 0;
}

bool vector_field(const SignedValue *c, const char *key, uint8_t *field, size_t size) {
        _cleanup_bytes_ Bytes b = {};

        if (!vector_bytes(c, key, &b) || b.size != size)
                return false;
        memcpy(field, b.data, size);
        return true;
}

const char* vector_text(const SignedValue *c, const char *key) {
        return strempty(signed_get_string(c, key));
}

bool vector_true(const SignedValue *c, const char *key) {
        const SignedValue *v = signed_get(c, key);

        return v && v->type == SIGNED_TRUE;
}

bool vector_error_matches(const char *expected, const char *got) {
        const char *decode = strstr(expected, "decode");

        return decode ? strncmp(expected, got, (size_t) (decode - expected) + strlen("decode")) == 0
                      : streq(expected, got);
}

static const VectorFile* find_runner(const char *path) {
        static const VectorFile *const lists[] = {vector_files_primitives, vector_files_messages,
                                                  vector_files_identity, vector_files_keys, vector_files_bridge};
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

        for (size_t i = 0; i < ELEMENTSOF(lists); i++)
                for (const VectorFile *f = lists[i]; f->name; f++)
                        if (streq(f->name, name))
                                return f;
        return NULL;
}

typedef struct Tally {
        unsigned passed, failed;
} Tally;

static void run_case(const char *path, const SignedValue *c, vector_case_t run, Tally *t) {
        const char *problem = run(c);

        if (!problem) {
                t->passed++;
                return;
        }
        t->failed++;
        printf("%s: %s: %s\n", path, vector_text(c, "name"), problem);
}

static void run_list(const char *path, const SignedValue *list, vector_case_t run, Tally *t) {
        for (const SignedValue *c = list->child; c; c = c->next)
                run_case(path, c, run, t);
}

/* A list that is not there would pass unnoticed. */
static void run_lists(const char *path, const SignedValue *root, const VectorList *lists, Tally *t) {
        for (const VectorList *l = lists; l->name; l++) {
                const SignedValue *list = signed_get(root, l->name);

                if (!list || list->type != SIGNED_ARRAY || list->size == 0) {
                        printf("%s: %s: no cases\n", path, l->name);
                        t->failed++;
                } else
                        run_list(path, list, l->run, t);
        }
}

static int run_file(const char *path, Tally *t) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        const VectorFile *f = find_runner(path);
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (!f) {
                fprintf(stderr, "puffo-vectors: %s: no such set of vectors is known\n", path);
                return -EINVAL;
        }
        r = file_read(path, MIB(64), &text, &size);
        if (r >= 0)
                r = signed_document_parse(&d, text, size);
        if (r < 0) {
                fprintf(stderr, "puffo-vectors: %s: %s\n", path, strerror(-r));
                return r;
        }

        vector_file_root = signed_document_root(d);
        if (f->lists)
                run_lists(path, vector_file_root, f->lists, t);
        else if (vector_file_root->type == SIGNED_ARRAY)
                run_list(path, vector_file_root, f->run, t);
        else
                run_case(path, vector_file_root, f->run, t);
        vector_file_root = NULL;
        return 0;
}

int main(int argc, char *argv[]) {
        Tally t = {};

        if (argc < 2) {
                fprintf(stderr, "usage: puffo-vectors FILE…\n");
                return 2;
        }
        if (crypto_init() < 0) {
                fprintf(stderr, "puffo-vectors: no cryptography to be had\n");
                return 1;
        }

        for (int i = 1; i < argc; i++)
                if (run_file(argv[i], &t) < 0)
                        t.failed++;

        printf("%u passed, %u failed\n", t.passed, t.failed);
        return t.failed > 0;
}
