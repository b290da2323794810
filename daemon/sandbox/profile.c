/* SPDX-License-Identifier: MIT */

#include "profile.h"

static const char *const names[_PROFILE_MAX] = {
        [PROFILE_HOST] = "host",
        [PROFILE_WORKSPACE] = "workspace",
        [PROFILE_STRICT] = "strict",
};

const char* profile_to_string(Profile p) {
        return p >= 0 && p < _PROFILE_MAX ? names[p] : NULL;
}

Profile profile_from_string(const char *s) {
        for (Profile p = 0; p < _PROFILE_MAX; p++)
                if (streq(s, names[p]))
                        return p;
        return _PROFILE_INVALID;
}
