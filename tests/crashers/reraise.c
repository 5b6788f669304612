/* A crash handler as many programs have one: it takes the fault, sets the
 * default action again and raises the signal anew.
 *
 * Dies by SIGSEGV after two deliveries: the first handled (SEGV_MAPERR, write
 * to 0x20), the second fatal and sent by itself (SI_TKILL), without an address.
 * Chain of the first: bad_store main. */
#include <signal.h>
#include <stddef.h>

#include "crash.h"

static volatile int *volatile target = (volatile int *)0x20;

static void on_segv(int sig)
{
	signal(sig, SIG_DFL);
	raise(sig);
}

FRAME int bad_store(int x)
{
	*target = x;
	KEEP_FRAME();
	return x;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_segv };

	(void)argv;
	sigaction(SIGSEGV, &sa, NULL);
	int y = bad_store(argc);
	KEEP_FRAME();
	return y;
}
