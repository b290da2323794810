/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* Moves bytes between two sockets, both ways, through the kernel. Who does not read holds the other one back; the end
 * of one side is passed on, and the other may go on. */
typedef struct Tunnel Tunnel;

typedef struct TunnelSpec {
        sd_event *event;
        int a, b;                       /* taken over, on failure too */
        const void *to_a, *to_b;        /* what goes there first; copied */
        size_t to_a_size, to_b_size;    /* what goes to b counts as from a: it came from there */
        uint64_t idle_usec;             /* no byte for so long: the end */
        /* Both sides have ended, or (error < 0) something failed. Frees the tunnel. */
        void (*on_end)(Tunnel *t, int error, void *userdata);
        void *userdata;
} TunnelSpec;

int tunnel_new(Tunnel **ret, const TunnelSpec *spec);
Tunnel* tunnel_free(Tunnel *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(Tunnel*, tunnel_free);

/* Bytes so far. */
void tunnel_counts(const Tunnel *t, uint64_t *ret_from_a, uint64_t *ret_from_b);
