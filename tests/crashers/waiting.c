/* A thread dies by SIGSEGV while others wait, each in a call that its name tells.
 *
 *   calls     eight threads in known calls, one that spins; main joins the one that dies
 *   many N    N threads that wait; main dies
 *   churn     threads that begin and end without pause; main dies meanwhile
 *   orphan    main has ended; the only other thread dies
 *   locked    main waits for a mutex; the thread that holds it sends main SIGSEGV
 *
 * Each waiting thread has MARK plus its number on its stack. The thread that dies first sees
 * in /proc that the others wait. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"

enum { CALLS = 8, SPINNING = CALLS, CHURNING = 4, PIPE = 77 };
#define MARK 0x7761697420617400ull

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int pipe_ends[2];
static pthread_t sleeping;
static atomic_int begun[CALLS + 1];
static atomic_int ended;

FRAME void wait_mutex(void) { pthread_mutex_lock(&mutex); }
FRAME void wait_read(void)
{
	char byte;

	if (read(PIPE, &byte, 1) < 0)
		abort();
}
FRAME void wait_poll(void)
{
	struct pollfd one = { .fd = PIPE, .events = POLLIN };

	poll(&one, 1, -1);
}
FRAME void wait_sleep(void)
{
	struct timespec hour = { .tv_sec = 3600 };

	nanosleep(&hour, NULL);
}
FRAME void wait_join(void) { pthread_join(sleeping, NULL); }
FRAME void wait_epoll(void)
{
	struct epoll_event event;

	epoll_wait(epoll_create1(0), &event, 1, -1);
}
FRAME void wait_accept(void)
{
	int listening = socket(AF_INET, SOCK_STREAM, 0);

	listen(listening, 1);
	accept(listening, NULL, NULL);
}
FRAME void wait_signal(void)
{
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigwait(&set, &number);
}
FRAME void spin(void)
{
	for (;;)
		KEEP_FRAME();
}

static const struct {
	const char *name;
	void (*wait)(void);
} calls[CALLS + 1] = {
	{ "w-mutex", wait_mutex }, { "w-read", wait_read },	{ "w-poll", wait_poll },
	{ "w-sleep", wait_sleep }, { "w-join", wait_join },	{ "w-epoll", wait_epoll },
	{ "w-accept", wait_accept }, { "w-signal", wait_signal }, { "w-spin", spin },
};

FRAME void *waiting(void *arg)
{
	uintptr_t number = (uintptr_t)arg;
	volatile uint64_t mark = MARK + number;

	pthread_setname_np(pthread_self(), calls[number].name);
	atomic_store(&begun[number], (int)syscall(SYS_gettid));
	calls[number].wait();
	KEEP_FRAME();
	return (void *)(uintptr_t)mark;
}

/* Until the kernel shows that a thread is in a state. */
static void until(int tid, char wanted)
{
	char path[64], line[256], state = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	while (state != wanted) {
		FILE *file = fopen(path, "r");

		if (!file || !fgets(line, sizeof(line), file))
			abort();
		fclose(file);
		state = strrchr(line, ')')[2];
	}
}

FRAME int die(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x;
}

static void *dies(void *arg)
{
	pthread_t thread;

	pthread_setname_np(pthread_self(), "dies");
	pthread_mutex_lock(&mutex);
	for (int i = 0; i <= CALLS; i++) {
		uintptr_t number = i;

		pthread_create(&thread, NULL, waiting, (void *)number);
		if (calls[i].wait == wait_sleep)
			sleeping = thread;
		while (!atomic_load(&begun[i]))
			;
		if (i != SPINNING)
			until(begun[i], 'S');
	}
	until(getpid(), 'S');
	die(1);
	return arg;
}

static void *orphan(void *arg)
{
	until(getpid(), 'Z');
	die(1);
	return arg;
}

static void *holding(void *arg)
{
	pthread_mutex_lock(&mutex);
	atomic_store(&begun[0], 1);
	until(getpid(), 'S');
	pthread_kill(*(pthread_t *)arg, SIGSEGV);
	pause();
	return arg;
}

static void *pausing(void *arg)
{
	volatile uint64_t mark = MARK;

	atomic_fetch_add(&begun[0], 1);
	for (;;)
		pause();
	return (void *)(uintptr_t)(mark + (uintptr_t)arg);
}

static void many(int count)
{
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 16384);
	for (int i = 0; i < count; i++)
		if (pthread_create(&thread, &small, pausing, NULL))
			abort();
	while (atomic_load(&begun[0]) < count)
		usleep(1000);
}

static void *nothing(void *arg) { return arg; }

static void *churning(void *arg)
{
	pthread_t threads[4];

	for (;;) {
		for (int i = 0; i < 4; i++)
			pthread_create(&threads[i], NULL, nothing, NULL);
		for (int i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
		atomic_fetch_add(&ended, 4);
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	sigset_t set;

	if (argc > 2 && !strcmp(argv[1], "many")) {
		many(atoi(argv[2]));
		return die(1);
	}
	if (argc > 1 && !strcmp(argv[1], "churn")) {
		for (int i = 0; i < CHURNING; i++)
			pthread_create(&thread, NULL, churning, NULL);
		while (atomic_load(&ended) < 200)
			;
		return die(1);
	}
	if (argc > 1 && !strcmp(argv[1], "orphan")) {
		pthread_create(&thread, NULL, orphan, NULL);
		pthread_exit(NULL);
	}
	if (argc > 1 && !strcmp(argv[1], "locked")) {
		pthread_t self = pthread_self();

		pthread_create(&thread, NULL, holding, &self);
		while (!atomic_load(&begun[0]))
			;
		wait_mutex();
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (pipe(pipe_ends) || dup2(pipe_ends[0], PIPE) < 0)
		abort();
	pthread_create(&thread, NULL, dies, NULL);
	pthread_join(thread, NULL);
	return 0;
}
