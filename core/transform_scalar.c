/* SPDX-License-Identifier: MIT */
/* The sums of a transform for every processor. */
#define TF_NAME tf_scalar
#include "transform.inc"
