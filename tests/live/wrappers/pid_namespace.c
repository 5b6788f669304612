/* pid_namespace PROGRAM ARGUMENT...: runs PROGRAM as the first process of a new
 * pid namespace, with its own /proc. SIGINT and SIGTERM go on to it. Ends with its
 * status, or with 128 and the number of the signal that ended it. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile pid_t child;

static void pass_on(int sig)
{
	if (child > 0)
		kill(child, sig);
}

int main(int argc, char **argv)
{
	int status;

	if (argc < 2 || unshare(CLONE_NEWPID | CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
		perror("pid_namespace");
		return 126;
	}
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		if (mount("proc", "/proc", "proc", 0, NULL)) {
			perror("pid_namespace: /proc");
			return 126;
		}
		execvp(argv[1], argv + 1);
		perror(argv[1]);
		return 127;
	}
	signal(SIGINT, pass_on);
	signal(SIGTERM, pass_on);
	while (waitpid(child, &status, 0) < 0)
		;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
