/* call PID: has another process make system calls, one for each line of standard input:
 * a number and six arguments. Writes for each the result as the kernel has it. The process
 * is stopped where it sleeps in a system call, and goes on with it afterwards. x86_64. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Stops the process inside a system call: elsewhere there is no instruction to repeat. */
static int stop(pid_t pid, struct user_regs_struct *regs)
{
	int status;

	if (ptrace(PTRACE_SEIZE, pid, 0, 0))
		return -1;
	for (int i = 0; i < 10000; i++) {
		if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) || waitpid(pid, &status, __WALL) != pid ||
		    !WIFSTOPPED(status) || ptrace(PTRACE_GETREGS, pid, 0, regs))
			return -1;
		if ((long long)regs->orig_rax >= 0)
			return 0;
		if (ptrace(PTRACE_CONT, pid, 0, 0))
			return -1;
		usleep(1000);
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct user_regs_struct before, regs;
	long long call, argument[6];
	pid_t pid = argc > 1 ? atoi(argv[1]) : 0;
	int status;

	if (stop(pid, &before)) {
		perror(argv[0]);
		return 1;
	}
	/* It goes on with the call in which it slept. */
	before.rip -= 2;
	before.rax = before.orig_rax;
	before.orig_rax = -1;
	while (scanf("%lld %lli %lli %lli %lli %lli %lli", &call, argument, argument + 1, argument + 2,
		     argument + 3, argument + 4, argument + 5) == 7) {
		regs = before;
		regs.rax = call;
		regs.rdi = argument[0];
		regs.rsi = argument[1];
		regs.rdx = argument[2];
		regs.r10 = argument[3];
		regs.r8 = argument[4];
		regs.r9 = argument[5];
		if (ptrace(PTRACE_SETREGS, pid, 0, &regs) || ptrace(PTRACE_SINGLESTEP, pid, 0, 0) ||
		    waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status) || ptrace(PTRACE_GETREGS, pid, 0, &regs))
			return 1;
		printf("%lld\n", (long long)regs.rax);
	}
	return ptrace(PTRACE_SETREGS, pid, 0, &before) || ptrace(PTRACE_DETACH, pid, 0, 0) ? 1 : 0;
}
