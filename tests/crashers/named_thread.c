/* named_thread [NAME]: a thread that calls itself NAME (default "worker-7")
 * writes through a null pointer, while the main thread keeps the program's name.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0) in the thread: tid differs from pid.
 * Chain: worker_crash worker. */
#define _GNU_SOURCE
#include <pthread.h>

#include "crash.h"

FRAME int worker_crash(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x;
}

FRAME void *worker(void *name)
{
	pthread_setname_np(pthread_self(), name);
	worker_crash(1);
	KEEP_FRAME();
	return name;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	pthread_create(&thread, NULL, worker, argc > 1 ? argv[1] : "worker-7");
	pthread_join(thread, NULL);
	return 0;
}
