/* Other threads that wait, each in a function of its own: blocked calls | locks |
 * recursive | inherit.
 *
 * Dies by SIGSEGV, once all of them wait (`calls stay` prints a line and waits, too):
 *   calls      eight threads in eight system calls, and one that spins
 *   locks      two threads, each of which waits for the mutex of the other
 *   recursive  the same, with mutexes of the type recursive
 *   inherit    one thread waits for a mutex that another one has, with priority inheritance
 * Chain: crash_now main. */
#define _GNU_SOURCE
#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "crash.h"

pthread_mutex_t mutex_a, mutex_b;
static pthread_mutex_t of_condition = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t both;
static pthread_t sleeper;
static int pipes[2];
/* Threads that wait next in what they are about. */
static int ready;

static void about_to_wait(void)
{
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
}

FRAME void in_lock(void)
{
	about_to_wait();
	pthread_mutex_lock(&mutex_a);
	KEEP_FRAME();
}

FRAME void in_read(void)
{
	char byte;

	about_to_wait();
	if (read(pipes[0], &byte, 1) != 1)
		abort();
	KEEP_FRAME();
}

FRAME void in_poll(void)
{
	struct pollfd one = {.fd = pipes[0], .events = POLLIN};

	about_to_wait();
	poll(&one, 1, -1);
	KEEP_FRAME();
}

FRAME void in_sleep(void)
{
	struct timespec long_time = {.tv_sec = 1000};

	about_to_wait();
	nanosleep(&long_time, NULL);
	KEEP_FRAME();
}

FRAME void in_join(void)
{
	about_to_wait();
	pthread_join(sleeper, NULL);
	KEEP_FRAME();
}

FRAME void in_epoll(void)
{
	struct epoll_event event;

	about_to_wait();
	epoll_wait(epoll_create1(0), &event, 1, -1);
	KEEP_FRAME();
}

FRAME void in_accept(void)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int listening = socket(AF_UNIX, SOCK_STREAM, 0);

	/* The kernel chooses the name. */
	if (bind(listening, (struct sockaddr *)&name, sizeof name.sun_family) || listen(listening, 1))
		abort();
	about_to_wait();
	accept(listening, NULL, NULL);
	KEEP_FRAME();
}

FRAME void in_condition(void)
{
	pthread_mutex_lock(&of_condition);
	about_to_wait();
	pthread_cond_wait(&condition, &of_condition);
	KEEP_FRAME();
}

FRAME void in_user_code(void)
{
	about_to_wait();
	for (;;)
		KEEP_FRAME();
}

FRAME void a_then_b(void)
{
	pthread_mutex_lock(&mutex_a);
	pthread_barrier_wait(&both);
	about_to_wait();
	pthread_mutex_lock(&mutex_b);
	KEEP_FRAME();
}

FRAME void b_then_a(void)
{
	pthread_mutex_lock(&mutex_b);
	pthread_barrier_wait(&both);
	about_to_wait();
	pthread_mutex_lock(&mutex_a);
	KEEP_FRAME();
}

FRAME void b_then_sleep(void)
{
	pthread_mutex_lock(&mutex_b);
	pthread_barrier_wait(&both);
	in_sleep();
	KEEP_FRAME();
}

static void *run(void *function)
{
	((void (*)(void))function)();
	return NULL;
}

static pthread_t begin(void (*function)(void))
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, (void *)function))
		abort();
	return thread;
}

/* How many threads sleep, as the kernel has it. */
static int sleeping(void)
{
	DIR *tasks = opendir("/proc/self/task");
	int count = 0;

	for (struct dirent *entry; (entry = readdir(tasks));) {
		char path[300], line[512] = "";
		FILE *file;
		char *end;

		snprintf(path, sizeof path, "/proc/self/task/%s/stat", entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
		fclose(file);
		count += end && end[2] == 'S';
	}
	closedir(tasks);
	return count;
}

/* All of them are ready, and all but those that spin sleep. */
static void wait_until_they_sleep(int threads, int spinning)
{
	while (__atomic_load_n(&ready, __ATOMIC_SEQ_CST) < threads + spinning || sleeping() < threads)
		usleep(1000);
}

FRAME int crash_now(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	pthread_mutexattr_t kind;

	pthread_mutexattr_init(&kind);
	if (!strcmp(how, "recursive"))
		pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
	if (!strcmp(how, "inherit"))
		pthread_mutexattr_setprotocol(&kind, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&mutex_a, &kind);
	pthread_mutex_init(&mutex_b, &kind);
	pthread_barrier_init(&both, NULL, 2);
	if (!strcmp(how, "calls")) {
		if (pipe(pipes))
			abort();
		pthread_mutex_lock(&mutex_a);
		sleeper = begin(in_sleep);
		begin(in_lock);
		begin(in_read);
		begin(in_poll);
		begin(in_join);
		begin(in_epoll);
		begin(in_accept);
		begin(in_condition);
		begin(in_user_code);
		wait_until_they_sleep(8, 1);
		if (argc > 2 && !strcmp(argv[2], "stay")) {
			puts("all wait");
			fflush(stdout);
			pause();
		}
	} else {
		begin(a_then_b);
		begin(!strcmp(how, "inherit") ? b_then_sleep : b_then_a);
		wait_until_they_sleep(2, 0);
	}
	crash_now(1);
	KEEP_FRAME();
	return 0;
}
