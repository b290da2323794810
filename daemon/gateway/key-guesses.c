/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "key-guesses.h"

#define BURST 10U
#define EACH_USEC (6 * USEC_PER_SEC)
#define SLOTS 256U
#define RECENT 4U
#define NOTED 64U

typedef struct Guesser {
        uint64_t until_usec;            /* when all that he has shown is forgotten */
        uint64_t recent[RECENT];        /* hashes of the latest wrong ones */
        unsigned n_recent;              /* so many so far */
} Guesser;

struct KeyGuesses {
        unsigned char secret[crypto_shorthash_KEYBYTES];
        Guesser *guessers;              /* SLOTS and one, when there is one */
        uint64_t noted[NOTED];          /* hashes */
        unsigned n_noted;               /* so many so far */
};

int key_guesses_new(KeyGuesses **ret) {
        KeyGuesses *g = new0(KeyGuesses, 1);

        if (!g)
                return -ENOMEM;
        crypto_shorthash_keygen(g->secret);
        *ret = g;
        return 0;
}

KeyGuesses* key_guesses_free(KeyGuesses *g) {
        if (!g)
                return NULL;
        free(g->guessers);
        sodium_memzero(g, sizeof(*g));
        return mfree(g);
}

static uint64_t hash_of(const KeyGuesses *g, const void *data, size_t size) {
        unsigned char bytes[crypto_shorthash_BYTES];
        uint64_t hash;

        (void) crypto_shorthash(bytes, data, size, g->secret);
        memcpy(&hash, bytes, sizeof(hash));
        return hash;
}

bool key_guesses_any(const KeyGuesses *g) {
        return g->guessers;
}

bool key_guesses_may_tell(KeyGuesses *g, const void *who, size_t size, const char *shown, bool right,
                          uint64_t now_usec) {
        uint64_t hash;
        Guesser *guesser;

        if (!g->guessers) {
                if (right)
                        return true;
                g->guessers = new0(Guesser, SLOTS + 1);
                if (!g->guessers)
                        return false;
        }
        guesser = g->guessers + (who ? hash_of(g, who, size) % SLOTS : SLOTS);
        if (guesser->until_usec > now_usec + (BURST - 1) * EACH_USEC)
                return false;
        if (right)
                return true;
        hash = hash_of(g, shown, strlen(shown));
        for (unsigned i = 0; i < MIN(guesser->n_recent, RECENT); i++)
                if (guesser->recent[i] == hash)
                        return true;
        guesser->recent[guesser->n_recent++ % RECENT] = hash;
        guesser->until_usec = MAX(guesser->until_usec, now_usec) + EACH_USEC;
        return true;
}

void key_guesses_note(KeyGuesses *g, const char *shown) {
        if (!key_guesses_is_noted(g, shown))
                g->noted[g->n_noted++ % NOTED] = hash_of(g, shown, strlen(shown));
}

bool key_guesses_is_noted(const KeyGuesses *g, const char *shown) {
        uint64_t hash = hash_of(g, shown, strlen(shown));

        for (unsigned i = 0; i < MIN(g->n_noted, NOTED); i++)
                if (g->noted[i] == hash)
                        return true;
        return false;
}
