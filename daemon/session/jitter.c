/* SPDX-License-Identifier: MIT */

#include <sys/random.h>

#include "event-util.h"
#include "jitter.h"

uint64_t random_between(uint64_t min, uint64_t max) {
        uint64_t x;

        /* Before the kernel's pool is ready, early at boot, the clock is random enough. */
        if (getrandom(&x, sizeof(x), GRND_NONBLOCK) != sizeof(x))
                x = now_boottime_usec();
        return max > min ? min + x % (max - min + 1) : min;
}
