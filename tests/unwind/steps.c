// Work in libraries and in unusual frames between two signals, to be walked at
// every instruction.
#define _GNU_SOURCE
#include "chain.h"
#include <alloca.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <ucontext.h>
#endif

CALLED int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

CALLED void sorts(void)
{
	int numbers[24];
	for (int i = 0; i < 24; i++)
		numbers[i] = (i * 37) & 31;
	qsort(numbers, 24, sizeof(int), compare);
	sink += numbers[0];
}

CALLED void prints(void)
{
	char text[128];
	sink += snprintf(text, sizeof(text), "%s %d %g %p", "words", 7, 1.5, text);
	sink += strlen(text) + (strchr(text, 'q') != 0);
}

CALLED void allocates(void)
{
	char *memory = malloc(3000 + zero);
	memset(memory, 1, 3000);
	memory = realloc(memory, 90000 + zero);
	sink += memory[17];
	free(memory);
}

__attribute__((target("avx"))) CALLED void realigns(void)
{
	float lanes[16] __attribute__((aligned(64)));
	for (int i = 0; i < 16; i++)
		lanes[i] = sink + i;
	char *more = alloca(64 + zero);
	more[0] = (char)lanes[3];
	sink += more[zero] + (int)lanes[sink & 15];
	prints();
}

static jmp_buf buffer;

CALLED void jumps(int depth)
{
	if (depth == 0)
		longjmp(buffer, 1);
	jumps(depth - 1);
	sink++;
}

CALLED void returns_twice(void)
{
	if (!setjmp(buffer))
		jumps(3);
	sink++;
}

CALLED void handler(int signal)
{
	sink += signal;
}

CALLED void signals(void)
{
	signal(SIGUSR2, handler);
	raise(SIGUSR2);
	sink++;
}

CALLED void tells_time(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	sink += now.tv_nsec + (int)time(0);
}

#ifdef __GLIBC__
CALLED void contexts(void)
{
	ucontext_t context;
	volatile int passes = 0;
	getcontext(&context);
	if (passes++ == 0)
		setcontext(&context);
	sink += passes;
}
#endif

CALLED void steps(void)
{
	kill(getpid(), SIGUSR1);
	sorts();
	prints();
	allocates();
	realigns();
	returns_twice();
	tells_time();
	signals();
#ifdef __GLIBC__
	contexts();
#endif
	kill(getpid(), SIGUSR1);
}

static const struct scenario scenarios[] = { { "steps", steps }, { 0, 0 } };

int main(int argc, char **argv)
{
	signal(SIGUSR1, SIG_IGN);
	return start(argc, argv, scenarios);
}
