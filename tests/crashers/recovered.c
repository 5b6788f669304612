/* recovered WAY: faults (read at 0x10), gets over it, and later dies by SIGSEGV for
 * another reason: "exec" in a program that it executes (write at 0), "killed" by
 * a signal of its child.
 *
 * One handled delivery, then a fatal one. Chain of the first: risky main. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

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
	if (argc < 2) {
		*nowhere = 1;
		return 0;
	}
	signal(SIGSEGV, on_segv);
	if (sigsetjmp(back, 1) == 0)
		return risky(argc);
	signal(SIGSEGV, SIG_DFL);
	if (strcmp(argv[1], "exec") == 0)
		execl("/proc/self/exe", argv[0], (char *)NULL);
	pid_t parent = getpid();
	if (fork() == 0) {
		kill(parent, SIGSEGV);
		_exit(0);
	}
	for (;;)
		pause();
}
