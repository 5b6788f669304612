// A stack in pieces (-fsplit-stack): a function that finds no room gets a piece of its
// own from __morestack, which then is a frame between it and its caller.
//
// chain split_main: null_write fourth __morestack third __morestack second __morestack first main <start>
// chain split_thread: null_write fourth __morestack third __morestack second __morestack first in_thread <thread>
#include "chain.h"
#include <pthread.h>
#include <unistd.h>

/* A piece has at least SIGSTKSZ, which the library of -fsplit-stack asks for: 46 KB on a
 * processor with AMX. Then two functions would share one. */
long sysconf(int name)
{
	return name == _SC_SIGSTKSZ || name == _SC_MINSIGSTKSZ ? 8192 : -1;
}

CALLED void null_write(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void fourth(void)
{
	volatile char locals[20 << 10];
	locals[hide(0)] = 1;
	null_write();
	sink += locals[0];
}

CALLED void third(void)
{
	volatile char locals[20 << 10];
	locals[hide(1)] = 1;
	fourth();
	sink += locals[0];
}

CALLED void second(void)
{
	volatile char locals[20 << 10];
	locals[hide(2)] = 1;
	third();
	sink += locals[0];
}

CALLED void first(void)
{
	second();
	sink++;
}

CALLED void *in_thread(void *argument)
{
	first();
	return argument;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc > 1 && !strcmp(argv[1], "split_thread") && !pthread_create(&thread, 0, in_thread, 0))
		pthread_join(thread, 0);
	first();
	return sink;
}
