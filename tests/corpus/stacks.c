// Stacks of unusual size and place, and handlers of signals that were sent.
//
// chain large_frame: null_write large_frame inner middle outer main <start>
// chain many_frames: null_write descend{24} many_frames inner middle outer main <start>
// chain overflow_of_thread: recurse+ <depth>
// chain overflow_handled: in_handler handler <signal> recurse+ <depth>
// chain sent_to_handler: in_handler handler <signal> ... sent_to_handler inner middle outer main <start>
// chain handler_in_handler: in_handler handler <signal> ... second <signal> faults handler_in_handler inner middle outer main <start>
// chain after_jump: null_write after_jump inner middle outer main <start>
// chain from_alternate_thread: in_handler handler <signal> faults thread <thread>
// chain thread_of_thread: null_write second_thread <thread>
// chain forked: null_write forked inner middle outer main <start>
// chain main_thread_ended: null_write waits <thread>
// cause overflow_of_thread: stack_overflow
#define _GNU_SOURCE
#include "chain.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

CALLED void null_write(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

// Neither end of this frame is within reach of one window from the other.
CALLED void large_frame(void)
{
	volatile char locals[200 << 10];
	locals[hide(0)] = 1;
	null_write();
	sink += locals[0];
}

CALLED void descend(int depth)
{
	volatile char locals[512];
	locals[depth] = 1;
	if (depth > 1)
		descend(depth - 1);
	else
		null_write();
	sink += locals[depth];
}

CALLED void many_frames(void)
{
	descend(24);
	sink++;
}

CALLED void recurse(int depth)
{
	volatile char locals[256];
	locals[depth & 255] = 1;
	recurse(depth + 1);
	sink += locals[0];
}

CALLED void *overflows(void *argument)
{
	recurse(0);
	sink++;
	return argument;
}

CALLED void overflow_of_thread(void)
{
	pthread_t id;
	pthread_create(&id, 0, overflows, 0);
	pthread_join(id, 0);
	sink++;
}

CALLED void in_handler(void)
{
	*(volatile int *)hide(16) = 1;
	sink++;
}

CALLED void handler(int signal)
{
	sink += signal;
	in_handler();
	sink++;
}

static char alternate[64 << 10];

static inline void install(int signal, void (*function)(int), int flags)
{
	struct sigaction action = { .sa_handler = function, .sa_flags = flags };
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	sigaltstack(&stack, 0);
	sigaction(signal, &action, 0);
}

CALLED void overflow_handled(void)
{
	install(SIGSEGV, handler, SA_ONSTACK);
	recurse(0);
	sink++;
}

CALLED void sent_to_handler(void)
{
	install(SIGUSR1, handler, 0);
	kill(getpid(), SIGUSR1);
	sink++;
}

CALLED void faults(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void second(int signal)
{
	install(SIGUSR1, handler, 0);
	raise(SIGUSR1);
	sink += signal;
}

CALLED void handler_in_handler(void)
{
	install(SIGSEGV, second, 0);
	faults();
	sink++;
}

static sigjmp_buf jump;

CALLED void jumps(int signal)
{
	siglongjmp(jump, signal);
}

// What the handler left on the stack is no caller.
CALLED void after_jump(void)
{
	install(SIGSEGV, jumps, 0);
	if (!sigsetjmp(jump, 1))
		faults();
	signal(SIGSEGV, SIG_DFL);
	null_write();
	sink++;
}

CALLED void *thread(void *argument)
{
	install(SIGSEGV, handler, SA_ONSTACK);
	faults();
	sink++;
	return argument;
}

CALLED void from_alternate_thread(void)
{
	pthread_t id;
	pthread_create(&id, 0, thread, 0);
	pthread_join(id, 0);
	sink++;
}

CALLED void *second_thread(void *argument)
{
	null_write();
	sink++;
	return argument;
}

CALLED void *first_thread(void *argument)
{
	pthread_t id;
	pthread_create(&id, 0, second_thread, 0);
	pthread_join(id, 0);
	sink++;
	return argument;
}

CALLED void thread_of_thread(void)
{
	pthread_t id;
	pthread_create(&id, 0, first_thread, 0);
	pthread_join(id, 0);
	sink++;
}

// The child of a fork has its parent's stack.
CALLED void forked(void)
{
	pid_t child = fork();
	if (!child)
		null_write();
	int status = 0;
	waitpid(child, &status, 0);
	if (WIFSIGNALED(status))
		_exit(128 + WTERMSIG(status));
	sink++;
}

CALLED void *waits(void *argument)
{
	usleep(20000);
	null_write();
	sink++;
	return argument;
}

CALLED void main_thread_ended(void)
{
	pthread_t id;
	pthread_create(&id, 0, waits, 0);
	pthread_exit(0);
}

static const struct scenario scenarios[] = {
	{ "large_frame", large_frame },
	{ "many_frames", many_frames },
	{ "overflow_of_thread", overflow_of_thread },
	{ "overflow_handled", overflow_handled },
	{ "sent_to_handler", sent_to_handler },
	{ "handler_in_handler", handler_in_handler },
	{ "after_jump", after_jump },
	{ "from_alternate_thread", from_alternate_thread },
	{ "thread_of_thread", thread_of_thread },
	{ "forked", forked },
	{ "main_thread_ended", main_thread_ended },
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
