/* SPDX-License-Identifier: MIT */
#pragma once

#include "envelope.h"

/* Shared by envelope-open.c and envelope-seal.c. */

/* What is not encrypted of it. Borrowed. */
const SignedValue* envelope_outer(const Envelope *e);
/* Checks 1–6 of wire-protocol §10.1: the key of the content, as it is wrapped for this device. To be wiped. -EBADMSG
 * with *reterr, -ENOMEM. */
int envelope_content_key(const Envelope *e, const char *device_id, const KemKey *kem, uint8_t ret_key[KEY_SIZE],
                         EnvelopeError *reterr);
