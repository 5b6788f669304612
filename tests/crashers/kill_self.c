/* Sends itself SIGSEGV: kill(getpid(), SIGSEGV). There is no fault address.
 *
 * Dies by SIGSEGV (SI_USER, sender itself).
 * Chain: kill send_segv main. */
#include <signal.h>
#include <unistd.h>

#include "crash.h"

FRAME int send_segv(void)
{
	int y = kill(getpid(), SIGSEGV);
	KEEP_FRAME();
	return y + 1;
}

int main(void)
{
	int y = send_segv();
	KEEP_FRAME();
	return y;
}
