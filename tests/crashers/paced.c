/* Faults on purpose, as virtual machines do: paced RATE SECONDS.
 *
 * A handler takes RATE faults in each second, spread over its milliseconds; each
 * instruction that faults is passed over. Says how many there were, and ends with 0. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <ucontext.h>

#include "crash.h"

static volatile unsigned long taken;

/* Both instructions below have this many bytes. */
#if defined(__x86_64__)
#define LENGTH 3
#define PC(context) (context)->uc_mcontext.gregs[REG_RIP]
#define FAULT() __asm__ volatile("movb $1, (%0)" : : "r"(nowhere) : "memory")
#else
#define LENGTH 4
#define PC(context) (context)->uc_mcontext.pc
#define FAULT() __asm__ volatile("strb wzr, [%0]" : : "r"(nowhere) : "memory")
#endif

static void take(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	taken++;
	PC((ucontext_t *)context) += LENGTH;
}

FRAME void fault(void)
{
	register int *nowhere __asm__(
#if defined(__x86_64__)
		"rax"
#else
		"x0"
#endif
		) = NULL;
	FAULT();
}

int main(int argc, char **argv)
{
	unsigned long rate = argc > 2 ? strtoul(argv[1], NULL, 10) : 0;
	unsigned long ticks = argc > 2 ? 1000 * strtoul(argv[2], NULL, 10) : 0;
	struct sigaction action = { .sa_flags = SA_SIGINFO };
	struct timespec next;

	action.sa_sigaction = take;
	sigaction(SIGSEGV, &action, NULL);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (unsigned long tick = 1; tick <= ticks; tick++) {
		while (taken < rate * tick / 1000)
			fault();
		next.tv_nsec += 1000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	printf("%lu\n", taken);
	return 0;
}
