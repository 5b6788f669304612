/* overflow plain | handler | altstack: endless recursion.
 *
 * Dies by SIGSEGV:
 *   plain     one delivery (SEGV_MAPERR, just below the stack pointer)
 *   handler   a handler on the normal stack: the first delivery is the true
 *             one, but no frame for the handler fits on the stack, so the
 *             kernel kills by a second one (SI_KERNEL, address 0)
 *   altstack  a handler on its own stack, which sets the default action and
 *             raises anew: two deliveries, the second SI_TKILL
 * Chain: recurse recurse recurse ... */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "crash.h"

static volatile int forever = 1;

static void on_segv(int sig)
{
	signal(sig, SIG_DFL);
	raise(sig);
}

FRAME int recurse(int depth)
{
	volatile char room[1000];

	room[depth % 1000] = (char)depth;
	int y = forever ? recurse(depth + 1) : 0;
	KEEP_FRAME();
	return y + room[depth % 1000];
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "plain";
	struct sigaction sa = { .sa_handler = on_segv };

	if (!strcmp(mode, "altstack")) {
		stack_t alt = { .ss_size = 65536, .ss_sp = malloc(65536) };

		sigaltstack(&alt, NULL);
		sa.sa_flags = SA_ONSTACK;
	}
	if (strcmp(mode, "plain"))
		sigaction(SIGSEGV, &sa, NULL);
	int y = recurse(0);
	KEEP_FRAME();
	return y & 1;
}
