// Crashes with the C library between the program's functions, or below them.
//
// chain sorts: compare ... sorts inner middle outer main <start>
// chain measures: *strlen* measures inner middle outer main <start>
// chain copies: *mem*|?? copies inner middle outer main <start>
// chain prints: ... prints inner middle outer main <start>
// chain tells_time: ... tells_time inner middle outer main <start>
// chain frees: ... frees inner middle outer main <start>
// chain threads: in_thread thread <thread>
// chain exits: at_exit ... exits inner middle outer main <start>
// chain switches: in_thread coroutine <thread>
// cause frees: unmapped
#define _GNU_SOURCE
#include "chain.h"
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#ifdef __GLIBC__
#include <ucontext.h>
#endif

CALLED int compare(const void *a, const void *b)
{
	sink += *(const int *)a - *(const int *)b;
	*(volatile int *)hide(0) = 1;
	return sink;
}

CALLED void sorts(void)
{
	int numbers[64];
	for (int i = 0; i < 64; i++)
		numbers[i] = (i * 37) & 63;
	qsort(numbers, 64, sizeof(int), compare);
	sink += numbers[0];
}

CALLED void measures(void)
{
	sink += strlen((char *)hide(0x10));
	sink++;
}

CALLED void copies(void)
{
	char from[4096];
	from[0] = sink;
	memcpy((char *)hide(0x10), from, sizeof(from) - zero);
	sink++;
}

CALLED void prints(void)
{
	char text[64];
	sink += snprintf(text, sizeof(text), "%d %s", 7, (char *)hide(0x10));
	sink += text[0];
}

CALLED void tells_time(void)
{
	clock_gettime(CLOCK_MONOTONIC, (struct timespec *)hide(8));
	sink++;
}

CALLED void frees(void)
{
	free((void *)hide(0x10010));
	sink++;
}

CALLED void in_thread(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void *thread(void *argument)
{
	in_thread();
	sink++;
	return argument;
}

CALLED void threads(void)
{
	pthread_t id;
	pthread_create(&id, 0, thread, 0);
	pthread_join(id, 0);
	sink++;
}

#ifdef __GLIBC__
static ucontext_t main_context, other_context;
static char stack[64 << 10];

CALLED void coroutine(void)
{
	in_thread();
	sink++;
}

CALLED void switches(void)
{
	getcontext(&other_context);
	other_context.uc_stack.ss_sp = stack;
	other_context.uc_stack.ss_size = sizeof(stack);
	other_context.uc_link = &main_context;
	makecontext(&other_context, coroutine, 0);
	swapcontext(&main_context, &other_context);
	sink++;
}
#endif

CALLED void at_exit(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void exits(void)
{
	atexit(at_exit);
	exit(0);
}

static const struct scenario scenarios[] = {
	{ "sorts", sorts },	  { "measures", measures }, { "copies", copies },
	{ "prints", prints },	  { "frees", frees },	    { "tells_time", tells_time },
	{ "threads", threads },	  { "exits", exits },
#ifdef __GLIBC__
	{ "switches", switches },
#endif
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
