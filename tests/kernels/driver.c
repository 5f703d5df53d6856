/* Runs one program with every kernel of this processor, on 1 and on 3 threads: for the sanitizers.
 *
 * usage: driver FILE, which holds seven int64 (block bytes, number, tokens, input bytes, output bytes, 0, 0), the block and
 * the input. Each output goes to stdout, after it was filled with bytes of 0xff, which is NaN.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

static const Kernel *const KERNELS[] = {
#ifdef LIPTT_X86
    &AVX512_KERNEL, &AVX2_FAST_KERNEL, &AVX2_KERNEL,
#endif
    &PORTABLE_KERNEL,
};

static void *read_bytes(FILE *file, int64_t bytes) {
    void *memory = aligned_alloc(64, (size_t)((bytes + 63) / 64 * 64));
    void *exact = malloc((size_t)bytes); /* no byte more, so that a read past the end is seen */
    if (!memory || !exact || fread(memory, 1, (size_t)bytes, file) != (size_t)bytes) exit(2);
    memcpy(exact, memory, (size_t)bytes);
    free(memory);
    return exact;
}

int main(int count, char **arguments) {
    int64_t numbers[7];
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    if (!file || fread(numbers, sizeof numbers, 1, file) != 1) return 2;
    uint8_t *block = read_bytes(file, numbers[0]), *input = read_bytes(file, numbers[3]);
    uint8_t *output = malloc((size_t)numbers[4]);
    const Batch batch = {input, output, (Number)numbers[1], numbers[2]};
    for (size_t kernel = 0; kernel < sizeof KERNELS / sizeof KERNELS[0]; kernel++)
        for (int threads = 1; threads <= 3 && KERNELS[kernel]->is_supported(); threads += 2) {
            memset(output, 0xff, (size_t)numbers[4]);
            if (run_program(block, KERNELS[kernel], &batch, threads)) return 3;
            fwrite(output, 1, (size_t)numbers[4], stdout);
        }
    free(block), free(input), free(output);
    return fclose(file);
}
