/* The pool: one word says which chunk of which job is next; whoever raises it owns that chunk.
 *
 * ticket = job number (32 bits) | chunks of the job (16 bits) | next chunk (16 bits), so that a thread that comes late
 * finds the job full, or another job, and touches nothing of what has ended. The caller waits for chunks, never for
 * threads: one that the system does not schedule costs nothing. There are no barriers and no OpenMP.
 *
 * A thread that finds nothing looks on for some microseconds, for the next call, and then sleeps. A child of fork()
 * has none of its parent's threads: it begins with an empty pool.
 */
#define _POSIX_C_SOURCE 200809L
#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sched.h>
#include <time.h>

enum { MOST_THREADS = 256, MOST_CHUNKS = 65535, LOOK_MICROSECONDS = 50, LOOKS_BETWEEN_CLOCKS = 64 };

static struct {
    atomic_ullong ticket;
    atomic_int done; /* chunks of the job */
    Chunk chunk;
    void *context;
    int64_t chunks, at_once; /* of the caller's numbers, `at_once` make one of the pool's */
    int threads;             /* that were started */
    atomic_int helpers;      /* of them, how many this job wants */
    atomic_int asleep;
    pthread_mutex_t caller; /* one job at a time */
    pthread_mutex_t sleep;
    pthread_cond_t wake;
} pool = {.caller = PTHREAD_MUTEX_INITIALIZER, .sleep = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static unsigned long long job_of(unsigned long long ticket) { return ticket >> 32; }

static int next_of(unsigned long long ticket) { return (int)(ticket & 0xffff); }

static int count_of(unsigned long long ticket) { return (int)(ticket >> 16 & 0xffff); }

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void run_some(int number) {
    const int64_t first = number * pool.at_once, chunks = pool.chunks;
    const int64_t past = first + pool.at_once < chunks ? first + pool.at_once : chunks;
    for (int64_t index = first; index < past; index++) pool.chunk(pool.context, index);
    atomic_fetch_add_explicit(&pool.done, 1, memory_order_release);
}

/* Takes chunks while there are any; returns whether it took one. */
static int take_chunks(void) {
    int took = 0;
    unsigned long long ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    while (next_of(ticket) < count_of(ticket)) {
        if (!atomic_compare_exchange_weak_explicit(&pool.ticket, &ticket, ticket + 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        run_some(next_of(ticket)); /* the job cannot end before this chunk is counted */
        took = 1;
        ticket = atomic_load_explicit(&pool.ticket, memory_order_acquire);
    }
    return took;
}

static long long microseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int is_wanted(int helper) {
    const unsigned long long ticket = atomic_load(&pool.ticket);
    return next_of(ticket) < count_of(ticket) && helper < atomic_load(&pool.helpers);
}

static void sleep_until_wanted(int helper) {
    pthread_mutex_lock(&pool.sleep);
    atomic_fetch_add(&pool.asleep, 1);
    while (!is_wanted(helper)) pthread_cond_wait(&pool.wake, &pool.sleep);
    atomic_fetch_sub(&pool.asleep, 1);
    pthread_mutex_unlock(&pool.sleep);
}

static void *help(void *number) {
    const int helper = (int)(intptr_t)number;
    long long looked_since = microseconds();
    for (;;) {
        if (is_wanted(helper) && take_chunks()) looked_since = microseconds();
        for (int look = 0; look < LOOKS_BETWEEN_CLOCKS && !is_wanted(helper); look++) relax();
        if (!is_wanted(helper) && microseconds() - looked_since > LOOK_MICROSECONDS) {
            sleep_until_wanted(helper);
            looked_since = microseconds();
        }
    }
    return NULL;
}

static void begin_anew_in_child(void) {
    pool.threads = 0;
    atomic_store(&pool.asleep, 0);
    atomic_store(&pool.ticket, 0);
    pthread_mutex_init(&pool.caller, NULL);
    pthread_mutex_init(&pool.sleep, NULL);
    pthread_cond_init(&pool.wake, NULL);
}

/* Starts threads until there are so many beside the caller, or the system gives no more. */
static void start_threads(int wanted) {
    static int watches_forks;
    if (!watches_forks) watches_forks = !pthread_atfork(NULL, NULL, begin_anew_in_child);
    while (watches_forks && pool.threads < wanted && pool.threads < MOST_THREADS) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, help, (void *)(intptr_t)pool.threads)) return;
        pthread_detach(thread);
        pool.threads++;
    }
}

static void call_helpers(void) {
    if (!atomic_load(&pool.asleep)) return;
    pthread_mutex_lock(&pool.sleep);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.sleep);
}

/* Chunks that others have taken are being worked on: wait, and let them have this core if they need it. */
static void wait_for(int chunks) {
    for (int look = 0; atomic_load_explicit(&pool.done, memory_order_acquire) < chunks; look++)
        if (look < LOOKS_BETWEEN_CLOCKS)
            relax();
        else
            sched_yield();
}

static void run_together(Chunk chunk, void *context, int64_t chunks, int threads) {
    start_threads(threads - 1);
    pool.chunk = chunk;
    pool.context = context;
    pool.chunks = chunks;
    pool.at_once = (chunks + MOST_CHUNKS - 1) / MOST_CHUNKS;
    const int count = (int)((chunks + pool.at_once - 1) / pool.at_once);
    atomic_store(&pool.helpers, threads - 1);
    atomic_store(&pool.done, 0);
    const unsigned long long job = job_of(atomic_load(&pool.ticket)) + 1;
    atomic_store(&pool.ticket, job << 32 | (unsigned long long)count << 16);
    call_helpers();
    take_chunks();
    wait_for(count);
}

void run_chunks(Chunk chunk, void *context, int64_t chunks, int threads) {
    if (threads > 1 && chunks > 1 && !pthread_mutex_trylock(&pool.caller)) {
        run_together(chunk, context, chunks, threads);
        pthread_mutex_unlock(&pool.caller);
        return;
    }
    for (int64_t index = 0; index < chunks; index++) chunk(context, index); /* alone, also if another call has the pool */
}
