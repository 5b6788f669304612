/* A function whose first instruction is illegal, and a handler for that which
 * crashes.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, write).
 * Chain: on_trap, a restorer, interrupted main. */
#include <signal.h>
#include <stddef.h>

#include "crash.h"

static void on_trap(int sig)
{
	*nowhere = sig; /* line 13 */
	KEEP_FRAME();
}

FRAME void interrupted(void)
{
	__builtin_trap(); /* line 19 */
}

int main(void)
{
	struct sigaction sa = { .sa_handler = on_trap };

	sigaction(SIGILL, &sa, NULL);
	sigaction(SIGTRAP, &sa, NULL);
	interrupted(); /* line 28 */
	return 0;
}
