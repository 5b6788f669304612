/* SIGSEGV set to SIG_IGN and sent by kill: ignored [blocked].
 *
 * Ends with status 0. Without an argument the kernel drops the signal where it
 * is sent, and nothing is delivered. With "blocked" the signal is sent while it
 * is blocked, so that it stays pending, and is delivered (and ignored) when it
 * is unblocked. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	sigset_t segv;

	sigemptyset(&segv);
	sigaddset(&segv, SIGSEGV);
	signal(SIGSEGV, SIG_IGN);
	if (argc > 1 && !strcmp(argv[1], "blocked"))
		sigprocmask(SIG_BLOCK, &segv, NULL);
	kill(getpid(), SIGSEGV);
	sigprocmask(SIG_UNBLOCK, &segv, NULL);
	return 0;
}
