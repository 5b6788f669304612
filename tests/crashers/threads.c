/* Eight threads that write through a null pointer at the same moment: they meet
 * at a barrier, then wait for one flag, so that they are as close as can be.
 *
 * Dies by SIGSEGV; the kernel delivers between one and eight signals, all of
 * them one death.
 * Chain of each: thread_crash thread_body. */
#include <pthread.h>
#include <stdatomic.h>

#include "crash.h"

enum { THREADS = 8 };

static pthread_barrier_t barrier;
static atomic_int arrived;

FRAME int thread_crash(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x;
}

FRAME void *thread_body(void *arg)
{
	pthread_barrier_wait(&barrier);
	atomic_fetch_add(&arrived, 1);
	while (atomic_load(&arrived) < THREADS)
		;
	thread_crash(1);
	KEEP_FRAME();
	return arg;
}

int main(void)
{
	pthread_t threads[THREADS];

	pthread_barrier_init(&barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, thread_body, NULL);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
