/* SPDX-License-Identifier: MIT
 *
 * Run a fuzz target without libFuzzer: on the files that are named, or, for "-n COUNT", on inputs of a few bytes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int main(int count, char **names) {
    if (count == 3 && !strcmp(names[1], "-n")) {
        for (uint32_t i = 0; i < (uint32_t)atoi(names[2]); i++) {
            uint8_t bytes[64];
            for (int k = 0; k < 64; k++)
                bytes[k] = (uint8_t)((i + 1) * 2654435761u >> k % 24);
            LLVMFuzzerTestOneInput(bytes, i % 5 ? 4 : 64);
        }
        return 0;
    }
    for (int i = 1; i < count; i++) {
        FILE *file = fopen(names[i], "rb");
        uint8_t *bytes = malloc(1 << 20);
        if (!file || !bytes)
            return 2;
        LLVMFuzzerTestOneInput(bytes, fread(bytes, 1, 1 << 20, file));
        fclose(file), free(bytes);
    }
    return 0;
}
