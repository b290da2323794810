/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* Bounds how fast keys can be guessed: who has shown ten wrong ones may show one in six seconds. More than that is not
 * judged at all, right or wrong, or the answer would tell. Who keeps showing the same wrong key guesses nothing and is
 * not counted, so a client that is set up badly locks out nobody. */
typedef struct KeyGuesses KeyGuesses;

int key_guesses_new(KeyGuesses **ret);
KeyGuesses* key_guesses_free(KeyGuesses *g);
DEFINE_TRIVIAL_CLEANUP_FUNC(KeyGuesses*, key_guesses_free);

/* Whether anybody has shown a wrong one yet: before that nobody need be told from others. */
bool key_guesses_any(const KeyGuesses *g);

/* Whether somebody may be told that what he has shown is right, or wrong. who: bytes that stand for him; two may be
 * taken for one, and who has many names can see to it that all are. NULL: one who is never taken for another. */
bool key_guesses_may_tell(KeyGuesses *g, const void *who, size_t size, const char *shown, bool right,
                          uint64_t now_usec);

/* Right ones that are too long to be guessed, as cookies are: shown again, they tell nobody anything new. The latest
 * ones are kept. */
void key_guesses_note(KeyGuesses *g, const char *shown);
bool key_guesses_is_noted(const KeyGuesses *g, const char *shown);
