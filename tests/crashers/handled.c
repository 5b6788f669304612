/* handled N: faults N times (read at 0x10) and gets over it each time, by
 * sigaction and siglongjmp.
 *
 * Ends with status 0 after N handled deliveries (SEGV_MAPERR, address 0x10).
 * Chain of each: risky main. */
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>

#include "crash.h"

static sigjmp_buf back;
static volatile int *volatile target = (volatile int *)0x10;

static void on_segv(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

FRAME int risky(int x)
{
	int y = *target;
	KEEP_FRAME();
	return x + y;
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_segv };
	volatile int left = argc > 1 ? atoi(argv[1]) : 1;

	sigaction(SIGSEGV, &sa, NULL);
	while (left > 0) {
		if (sigsetjmp(back, 1) == 0) {
			int y = risky(left);
			KEEP_FRAME();
			return y | 1;
		}
		left--;
	}
	return 0;
}
