/* One way to a null write, for programs of 32 bits: compat KIND
 *
 * plain    in a handler of raiser()'s signal, whose frame has no siginfo
 * info     the same with SA_SIGINFO
 * spin     in a handler that interrupts spinner()
 * sleep    in a handler that interrupts a system call of sleeper()
 * qsort    in qsort's callback
 * thread   in a thread
 * onstack  in a thread, in a handler of thrower()'s signal on an alternate stack
 * oninfo   the same with SA_SIGINFO
 * else     in main
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, write).
 * Chain: fault work, then plain_handler <signal> kill raiser main (info_handler;
 * plain_handler <signal> spinner main; the same with sleep and sleeper), compare
 * qsort sorter main, body, plain_handler <signal> ... thrower throws (with oninfo
 * info_handler), or main. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "crash.h"

static volatile int on = 1;

FRAME int fault(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x + 1;
}

FRAME int work(int x)
{
	int y = fault(x + 1);
	KEEP_FRAME();
	return y + 1;
}

static void plain_handler(int sig)
{
	work(sig);
	KEEP_FRAME();
}

static void info_handler(int sig, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	work(sig);
	KEEP_FRAME();
}

FRAME int raiser(int x)
{
	int y = kill(getpid(), SIGUSR1);
	KEEP_FRAME();
	return y + x;
}

FRAME int spinner(int x)
{
	ualarm(20000, 0);
	while (on)
		x++;
	KEEP_FRAME();
	return x;
}

FRAME int sleeper(int x)
{
	ualarm(20000, 0);
	int y = sleep(100);
	KEEP_FRAME();
	return y + x;
}

static int compare(const void *a, const void *b)
{
	int y = work(*(const int *)a);
	KEEP_FRAME();
	return y - *(const int *)b;
}

FRAME int sorter(int x)
{
	int values[] = { x, 2, 1 };

	qsort(values, 3, sizeof(*values), compare);
	KEEP_FRAME();
	return values[0];
}

static void *body(void *arg)
{
	work(3);
	KEEP_FRAME();
	return arg;
}

FRAME int thrower(int x)
{
	int y = raise(SIGUSR2);
	KEEP_FRAME();
	return y + x;
}

static void *throws(void *arg)
{
	stack_t alternate = { .ss_size = 65536, .ss_sp = malloc(65536) };

	sigaltstack(&alternate, NULL);
	thrower(1);
	KEEP_FRAME();
	return arg;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	struct sigaction info = { .sa_sigaction = info_handler, .sa_flags = SA_SIGINFO };
	struct sigaction onstack = { .sa_handler = plain_handler, .sa_flags = SA_ONSTACK };
	pthread_t thread;
	int y = 0;

	if (!strcmp(kind, "oninfo")) {
		onstack.sa_sigaction = info_handler;
		onstack.sa_flags |= SA_SIGINFO;
	}
	sigaction(SIGUSR2, &onstack, NULL);

	signal(SIGUSR1, plain_handler);
	signal(SIGALRM, plain_handler);
	if (!strcmp(kind, "plain")) {
		y = raiser(1);
	} else if (!strcmp(kind, "info")) {
		sigaction(SIGUSR1, &info, NULL);
		y = raiser(1);
	} else if (!strcmp(kind, "spin")) {
		y = spinner(1);
	} else if (!strcmp(kind, "sleep")) {
		y = sleeper(1);
	} else if (!strcmp(kind, "qsort")) {
		y = sorter(argc);
	} else if (!strcmp(kind, "thread")) {
		pthread_create(&thread, NULL, body, NULL);
		pthread_join(thread, NULL);
	} else if (!strncmp(kind, "on", 2)) {
		pthread_create(&thread, NULL, throws, NULL);
		pthread_join(thread, NULL);
	} else {
		y = work(argc);
	}
	KEEP_FRAME();
	return y;
}
