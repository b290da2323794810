/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* What libFuzzer calls. In ordinary builds fuzz-main.c calls it with the seeds and with simple mutations of them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) __attribute__((visibility("default")));
