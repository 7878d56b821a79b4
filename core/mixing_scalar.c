/* SPDX-License-Identifier: MIT */
/* Context mixing for every processor. */
#define MIX_NAME mix_scalar
#include "mixing.inc"
