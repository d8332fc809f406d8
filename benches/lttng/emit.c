/* emit KIND THREADS SECONDS PAUSE: what does a tracepoint cost?
 *
 * Each thread, on a CPU of its own, emits events of KIND (u64, u64b32, b256, b1024) in slices of 256
 * for SECONDS, and sleeps PAUSE microseconds after each slice (0: not at all). The first 2 MiB do not
 * count: the ring's pages appear when they are first written. Prints JSON: the median of slices (ns of an event, two clock reads taken off), and
 * how many events there were. With the tracepoint off it is what a disabled one costs, the loop
 * with it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "rb.h"

#define SLICE 256
#define SLICES (1 << 20)

static pthread_barrier_t start;
static const char *kind;
static double seconds;
static long pause_us;

struct job {
	int cpu;
	float *slices;
	size_t n;
	unsigned long long events;
	pthread_t thread;
};

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* A function of its own for each kind: what is measured is no comparison of strings. */
#define EMIT(name, ...)							\
	static void __attribute__((noinline)) emit_##name(uint64_t from, const uint8_t *bytes) \
	{								\
		(void) bytes;						\
		for (uint64_t n = from; n < from + SLICE; n++) {	\
			(void) n;					\
			lttng_ust_tracepoint(rb, name, __VA_ARGS__);	\
		}							\
	}
EMIT(u64, n)
EMIT(u64b32, n, bytes + (n * 64 & 16383))
EMIT(b256, bytes + (n * 64 & 16383))
EMIT(b1024, bytes + (n * 64 & 16383))

static void *run(void *arg)
{
	static uint8_t bytes[16384 + 1024];
	struct job *job = arg;
	void (*emit)(uint64_t, const uint8_t *) =
		!strcmp(kind, "u64") ? emit_u64 : !strcmp(kind, "u64b32") ? emit_u64b32 :
		!strcmp(kind, "b256") ? emit_b256 : emit_b1024;
	cpu_set_t set;
	uint64_t end, begin, then;
	unsigned long turn = 0;
	size_t size = !strcmp(kind, "u64") ? 8 : !strcmp(kind, "u64b32") ? 40 :
		!strcmp(kind, "b256") ? 256 : 1024;
	unsigned long warm = (2 << 20) / (SLICE * (size + 6)) + 1;

	CPU_ZERO(&set);
	CPU_SET(job->cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	pthread_barrier_wait(&start);
	end = now() + (uint64_t) (seconds * 1e9);
	do {
		begin = now();
		emit(job->events, bytes);
		then = now();
		job->events += SLICE;
		if (turn++ >= warm && job->n < SLICES)
			job->slices[job->n++] = (float) (then - begin);
		if (pause_us)
			usleep(pause_us);
	} while (then < end || turn < warm + 64);
	return NULL;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *) a, y = *(const float *) b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	int threads, cpus[2], found = 0;
	unsigned long long events = 0;
	float *all;
	size_t n = 0;
	struct job job[2] = {0};
	cpu_set_t set;
	uint64_t begin, clock_ns;

	if (argc != 5) {
		fprintf(stderr, "usage: emit KIND THREADS SECONDS PAUSE\n");
		return 2;
	}
	kind = argv[1];
	threads = atoi(argv[2]) == 2 ? 2 : 1;
	seconds = atof(argv[3]);
	pause_us = atol(argv[4]);
	sched_getaffinity(0, sizeof(set), &set);
	for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++)
		if (CPU_ISSET(cpu, &set))
			cpus[found++] = cpu;
	begin = now();
	for (int i = 0; i < 100000; i++)
		(void) now();
	clock_ns = (now() - begin) / 100000;
	pthread_barrier_init(&start, NULL, threads);
	for (int i = 0; i < threads; i++) {
		job[i].cpu = cpus[i % found];
		job[i].slices = malloc(SLICES * sizeof(float));
		memset(job[i].slices, 0, SLICES * sizeof(float));
		pthread_create(&job[i].thread, NULL, run, &job[i]);
	}
	all = malloc(2 * SLICES * sizeof(float));
	for (int i = 0; i < threads; i++) {
		pthread_join(job[i].thread, NULL);
		memcpy(all + n, job[i].slices, job[i].n * sizeof(float));
		n += job[i].n;
		events += job[i].events;
	}
	qsort(all, n, sizeof(float), compare);
	printf("{\"ns\": %.3f, \"slices\": %zu, \"events\": %llu, \"seconds\": %.6f}\n",
	       (all[n / 2] - clock_ns) / SLICE, n, events, (now() - begin) / 1e9);
	return 0;
}
