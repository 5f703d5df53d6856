/* Threads that help: the caller works through all chunks itself, and whoever is awake takes some off its hands. */
#ifndef LIPTT_POOL_H
#define LIPTT_POOL_H

#include <stdint.h>

typedef void (*Chunk)(void *context, int64_t index);

/* Calls chunk(context, 0 .. chunks-1), each once, in any order, on at most `threads` threads; returns when all are done. */
void run_chunks(Chunk chunk, void *context, int64_t chunks, int threads);

#endif
