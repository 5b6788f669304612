/* frames HOW: stacks that end in other ways than the kernel's and glibc's own.
 *
 *   bare      a thread without a guard recurses
 *   over      a frame of 1 MB reaches over the guard into a writable mapping; what is
 *             written from its low end up meets the guard from below
 *   into      the same into a mapping that may not be written
 *   coroutine a stack of the program's own making, and a wild write right above it
 *   alternate the handler on its alternate stack writes somewhere wild
 *   alloca    6 MB of stack taken by alloca, and a null pointer
 *   beside    a wild write right below an unrelated mapping
 *
 * The first three are stack overflows, and the others none. */
#define _GNU_SOURCE
#include <alloca.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <ucontext.h>
#include <unistd.h>

#include "crash.h"

#define MB (1ul << 20)

static char *reserved;

static char *map(char *at, size_t bytes, int protection)
{
	char *got = mmap(at, bytes, protection,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);

	if (got == MAP_FAILED)
		exit(2);
	return got;
}

FRAME int rec(int n)
{
	volatile char b[200];

	b[n % 200] = n;
	int r = n < 0 ? 0 : rec(n + 1);
	return r + b[3];
}

static void *bare(void *unused)
{
	(void)unused;
	rec(0);
	return 0;
}

/* Through a pointer, as a library's function would do it. */
FRAME void fill(volatile char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		at[i] = 1;
}

__attribute__((noinline, optimize("no-omit-frame-pointer", "no-stack-clash-protection")))
static void large(size_t bytes)
{
	char *frame = alloca(bytes);

	fill(frame, bytes);
	KEEP_FRAME();
}

static void *over(void *unused)
{
	(void)unused;
	large(MB);
	return 0;
}

/* A stack of 64 KB, a guard of 4 KB, and what is below them in one piece. */
static void thread(void *(*run)(void *), int below)
{
	char *stack = map(0, 4 * MB, PROT_NONE);
	pthread_attr_t attributes;
	pthread_t id;

	map(stack, 3 * MB, below);
	map(stack + 3 * MB + 4096, 65536, PROT_READ | PROT_WRITE);
	pthread_attr_init(&attributes);
	pthread_attr_setstack(&attributes, stack + 3 * MB + 4096, 65536);
	pthread_create(&id, &attributes, run, 0);
	pthread_join(id, 0);
}

static ucontext_t back, routine;

static void inside(void)
{
	fill(reserved + 65536 + 4096, 4096);
}

static void on_signal(int signal)
{
	(void)signal;
	fill(reserved + MB, 4096);
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	pthread_attr_t attributes;
	pthread_t id;

	setrlimit(RLIMIT_CORE, &(struct rlimit){});
	reserved = map(0, 16 * MB, PROT_NONE);
	if (!strcmp(how, "bare")) {
		pthread_attr_init(&attributes);
		pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN);
		pthread_attr_setguardsize(&attributes, 0);
		pthread_create(&id, &attributes, bare, 0);
		pthread_join(id, 0);
	}
	if (!strcmp(how, "over"))
		thread(over, PROT_READ | PROT_WRITE);
	if (!strcmp(how, "into"))
		thread(over, PROT_READ);
	if (!strcmp(how, "coroutine")) {
		map(reserved, 65536, PROT_READ | PROT_WRITE);
		getcontext(&routine);
		routine.uc_stack.ss_sp = reserved;
		routine.uc_stack.ss_size = 65536;
		routine.uc_link = &back;
		makecontext(&routine, inside, 0);
		swapcontext(&back, &routine);
	}
	if (!strcmp(how, "alternate")) {
		stack_t other = { .ss_sp = map(0, 65536, PROT_READ | PROT_WRITE), .ss_size = 65536 };
		struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

		sigaltstack(&other, 0);
		sigaction(SIGUSR1, &action, 0);
		raise(SIGUSR1);
	}
	if (!strcmp(how, "alloca")) {
		char *large = alloca(6 * MB);

		large[5 * MB] = 1;
		*nowhere = large[5 * MB];
	}
	if (!strcmp(how, "beside")) {
		char *alone = map(reserved + 2 * MB, 4096, PROT_READ | PROT_WRITE);

		munmap(reserved, MB);
		munmap(alone - 4096, 4096);
		fill(alone - 64, 1);
	}
	return 0;
}
