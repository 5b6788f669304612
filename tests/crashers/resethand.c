/* A handler installed with SA_RESETHAND that returns into the fault.
 *
 * Dies by SIGSEGV after two deliveries of the same fault (SEGV_MAPERR, write to
 * 0x30): the first handled, the second fatal.
 * Chain of both: bad_store main. */
#include <signal.h>
#include <stddef.h>

#include "crash.h"

static volatile int *volatile target = (volatile int *)0x30;

static void on_segv(int sig)
{
	(void)sig;
}

FRAME int bad_store(int x)
{
	*target = x;
	KEEP_FRAME();
	return x;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_segv, .sa_flags = SA_RESETHAND };

	(void)argv;
	sigaction(SIGSEGV, &sa, NULL);
	int y = bad_store(argc);
	KEEP_FRAME();
	return y;
}
