/* overcome HOW: its handler takes the fault, and the process ends in another way.
 *
 *   exit       the handler exits with status 2, at once
 *   later      the program goes on, and exits with status 3 after 100 ms
 *   well       the same with status 0
 *   abort      the handler aborts
 *   killed     the handler sends itself SIGKILL
 *   on         the program goes on for 2 seconds, and exits with status 4
 *   again      it overcomes three faults at one place, and exits with status 5 after
 *              a fourth
 *   thread     a thread faults, and its handler exits with status 6 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "crash.h"

static const char *how;
static sigjmp_buf back;
static volatile int faults;

static void on_fault(int signal)
{
	(void)signal;
	faults++;
	if (!strcmp(how, "exit"))
		_exit(2);
	if (!strcmp(how, "thread"))
		_exit(6);
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "killed"))
		kill(getpid(), SIGKILL);
	if (faults == 4)
		_exit(5);
	siglongjmp(back, 1);
}

FRAME void touch(int *bad)
{
	bad[5] = 1;
	KEEP_FRAME();
}

static void *run(void *unused)
{
	(void)unused;
	if (!sigsetjmp(back, 1))
		touch(nowhere);
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_fault };
	pthread_t id;

	how = argc > 1 ? argv[1] : "";
	setrlimit(RLIMIT_CORE, &(struct rlimit){});
	sigaction(SIGSEGV, &action, 0);
	if (!strcmp(how, "thread")) {
		pthread_create(&id, 0, run, 0);
		pthread_join(id, 0);
	}
	do
		run(0);
	while (!strcmp(how, "again"));
	usleep(strcmp(how, "on") ? 100000 : 2000000);
	return !strcmp(how, "well") ? 0 : !strcmp(how, "on") ? 4 : 3;
}
