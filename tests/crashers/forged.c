/* Signals that nothing raised: forged raise | kill | queue | fault | kernel | thread.
 *
 * Each dies by SIGSEGV:
 *   raise   raise(3)                                  SI_TKILL
 *   kill    kill(2) of itself                         SI_USER
 *   queue   sigqueue(3) of itself                     SI_QUEUE
 *   fault   rt_sigqueueinfo(2) that says SEGV_MAPERR at 0x1234
 *   kernel  the same that says SI_KERNEL
 *   thread  as fault, while the caller blocks it: a thread takes it that only computes */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int going;
static volatile int computing;

static void *compute(void *unused)
{
	(void)unused;
	computing = 1;
	while (going)
		;
	return NULL;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	siginfo_t info = { .si_signo = SIGSEGV, .si_code = 1 };
	pthread_t thread;
	sigset_t blocked;

	info.si_addr = (void *)0x1234;
	if (!strcmp(kind, "raise")) {
		raise(SIGSEGV);
	} else if (!strcmp(kind, "kill")) {
		kill(getpid(), SIGSEGV);
	} else if (!strcmp(kind, "queue")) {
		sigqueue(getpid(), SIGSEGV, (union sigval){ .sival_int = 7 });
	} else if (!strcmp(kind, "fault")) {
		syscall(SYS_rt_sigqueueinfo, getpid(), SIGSEGV, &info);
	} else if (!strcmp(kind, "kernel")) {
		info.si_code = 0x80;
		info.si_addr = NULL;
		syscall(SYS_rt_sigqueueinfo, getpid(), SIGSEGV, &info);
	} else if (!strcmp(kind, "thread")) {
		going = 1;
		if (pthread_create(&thread, NULL, compute, NULL))
			return 1;
		while (!computing)
			;
		sigemptyset(&blocked);
		sigaddset(&blocked, SIGSEGV);
		pthread_sigmask(SIG_BLOCK, &blocked, NULL);
		syscall(SYS_rt_sigqueueinfo, getpid(), SIGSEGV, &info);
		pthread_join(thread, NULL);
	}
	return 0;
}
