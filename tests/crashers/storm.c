/* storm COUNT PARALLEL [PROGRAM ARGUMENT...]: COUNT children die by SIGSEGV, at
 * most PARALLEL of them alive at once. A child is a fork that writes through a
 * null pointer (chain: child_crash main), or PROGRAM.
 *
 * Ends with status 0 if every child died by SIGSEGV, else with 1. */
#define _GNU_SOURCE
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crash.h"

extern char **environ;

FRAME int child_crash(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x;
}

static pid_t start(char **program)
{
	pid_t pid;

	if (program[0])
		return posix_spawn(&pid, program[0], NULL, NULL, program, environ) ? -1 : pid;
	return fork();
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1;
	int parallel = argc > 2 ? atoi(argv[2]) : 1;
	char **program = argc > 3 ? argv + 3 : argv + argc;
	int started = 0, ended = 0, crashed = 0;

	while (ended < count) {
		while (started < count && started - ended < parallel) {
			pid_t pid = start(program);

			if (pid < 0) {
				perror("storm: cannot start a child");
				return 1;
			}
			if (pid == 0) {
				int y = child_crash(started);
				KEEP_FRAME();
				return y;
			}
			started++;
		}
		int status;

		if (wait(&status) < 0)
			return 1;
		ended++;
		if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV)
			crashed++;
	}
	return crashed == count ? 0 : 1;
}
