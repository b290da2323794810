/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "macro.h"

/* Stands in for libFuzzer where there is none: every file of the command line, and each of them a fixed number of
 * times with bytes changed, doubled or cut away, always in the same way. */
#define MUTATIONS 300U

static uint32_t random_next(uint32_t *state) {
        *state = *state * 1664525U + 1013904223U;
        return *state >> 8;
}

static size_t mutate(uint8_t *data, size_t size, uint32_t *state) {
        static const char tokens[] = "{}[]\":,\\\n\r\t -?&*!|>%@`#'\0\x7f\xc3\xe2\xf0\xff";
        size_t at;

        if (size == 0)
                return size;
        for (unsigned n = 1 + random_next(state) % 4; n > 0 && size > 0; n--) {
                at = random_next(state) % size;
                switch (random_next(state) % 4) {
                case 0:
                        data[at] ^= (uint8_t) (1U << random_next(state) % 8);
                        break;
                case 1:
                        data[at] = (uint8_t) tokens[random_next(state) % (sizeof(tokens) - 1)];
                        break;
                case 2:
                        size -= at;
                        memmove(data, data + at, size);
                        break;
                default:
                        size = at;
                }
        }
        return size;
}

static int file_run(const char *path) {
        _cleanup_free_ uint8_t *seed = NULL, *copy = NULL;
        uint32_t state = 1;
        FILE *f = fopen(path, "re");
        size_t size;
        long end;

        if (!f || fseek(f, 0, SEEK_END) < 0 || (end = ftell(f)) < 0 || fseek(f, 0, SEEK_SET) < 0) {
                perror(path);
                return EXIT_FAILURE;
        }
        size = (size_t) end;
        seed = malloc(size + 1);
        if (!seed || fread(seed, 1, size, f) != size) {
                perror(path);
                return EXIT_FAILURE;
        }
        (void) fclose(f);

        (void) LLVMFuzzerTestOneInput(seed, size);
        for (unsigned i = 0; i < MUTATIONS; i++) {
                size_t n;

                copy = malloc(size + 1);
                if (!copy)
                        return EXIT_FAILURE;
                memcpy(copy, seed, size);
                n = mutate(copy, size, &state);
                /* Of exactly that size, so that a read behind the end is found. */
                copy = realloc(copy, MAX(n, (size_t) 1));
                if (!copy)
                        return EXIT_FAILURE;
                (void) LLVMFuzzerTestOneInput(copy, n);
                copy = mfree(copy);
        }
        return EXIT_SUCCESS;
}

int main(int argc, char *argv[]) {
        for (int i = 1; i < argc; i++) {
                int r = file_run(argv[i]);

                if (r != EXIT_SUCCESS)
                        return r;
        }
        return EXIT_SUCCESS;
}
