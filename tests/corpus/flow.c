// Calls and stacks that no compiler makes: by hand, by the kernel, by the loader.
//
// chain in_vfork: null_write in_vfork inner middle outer main <start>
// chain smallest_stack: null_write smallest <thread>
// chain leaps_over_guard: leap+ <or_cut> leaps <thread>
// chain own_restorer: in_handler handler restorer|frame_dummy|? faults own_restorer inner middle outer main <start>
// chain three_handlers: in_handler third <signal> ... second <signal> ... first <signal> faults three_handlers inner middle outer main <start>
// chain handler_in_leaf: in_handler handler <signal> bare handler_in_leaf inner middle outer main <start>
// chain bare_chain: null_write called_back bare_large bare_small bare_chain inner middle outer main <start>
// chain unnamed_code: null_write called_back ?|bare_large unnamed_code inner middle outer main <start>
// chain returns_to_null: ? <lost> inner middle outer main <start>
// chain jumps_to_null: ? jumps_to_null inner middle outer main <start>
// chain pushed_return: null_write target pushed_return inner middle outer main <start>
// chain thread_by_hand: null_write routine <end>
// chain bottom_of_stack: null_write routine <cut>
// chain switched: null_write on_own_stack switch_stack switched inner middle outer main <start>
// chain switched_in_thread: null_write on_own_stack switch_stack switches <thread>
// chain switched_ahead: null_write on_own_stack switch_stack switches <thread>
// chain switched_twice: null_write on_own_stack switch_stack switches_on switch_stack switched_twice inner middle outer main <start>
// chain switched_handler: in_handler handler <signal> faults_on_own_stack switch_stack switched_handler inner middle outer main <start>
// chain nested: nested* calls_nested nested inner middle outer main <start>
// chain many_arguments: null_write with_arguments <thread>
// chain in_constructor: null_write constructs <start>
// cause leaps_over_guard: stack_overflow
// cause returns_to_null: null_call
// cause jumps_to_null: null_call
#define _GNU_SOURCE
#include "chain.h"
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <ucontext.h>
#endif

CALLED void null_write(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void called_back(void)
{
	null_write();
	sink++;
}

static inline void died(int status)
{
	if (WIFSIGNALED(status))
		_exit(128 + WTERMSIG(status));
	_exit(3);
}

// Its parent sleeps on the same stack.
CALLED void in_vfork(void)
{
	pid_t child = vfork();
	if (!child)
		null_write();
	int status = 0;
	waitpid(child, &status, 0);
	died(status);
}

static inline void thread(void *(*run)(void *), void *argument, unsigned long bytes)
{
	pthread_attr_t attributes;
	pthread_t id;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, bytes);
	pthread_create(&id, &attributes, run, argument);
	pthread_join(id, 0);
}

CALLED void *smallest(void *argument)
{
	null_write();
	sink++;
	return argument;
}

CALLED void smallest_stack(void)
{
	thread(smallest, 0, PTHREAD_STACK_MIN);
	sink++;
}

// Each frame is larger than the guard below the stack, and written at its far end.
CALLED void leap(int depth)
{
	volatile char locals[6000];
	locals[depth & 7] = 1;
	leap(depth + 1);
	sink += locals[0];
}

CALLED void *leaps(void *argument)
{
	leap(0);
	sink++;
	return argument;
}

CALLED void leaps_over_guard(void)
{
	thread(leaps, 0, 256 << 10);
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

CALLED void faults(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

// Shorter than the C library's, and without call-frame information.
__asm__(".text\n"
	".type restorer, @function\n"
	"restorer: mov $15, %eax\n"
	"syscall\n"
	".size restorer, . - restorer\n");
extern void restorer(void);

CALLED void own_restorer(void)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned long mask;
	} action = { handler, 0x04000000, restorer, 0 };
	syscall(SYS_rt_sigaction, SIGSEGV, &action, 0, 8);
	faults();
	sink++;
}

CALLED void third(int signal)
{
	in_handler();
	sink += signal;
}

CALLED void second(int number)
{
	signal(SIGUSR2, third);
	raise(SIGUSR2);
	sink += number;
}

CALLED void first(int number)
{
	signal(SIGUSR1, second);
	raise(SIGUSR1);
	sink += number;
}

CALLED void three_handlers(void)
{
	signal(SIGSEGV, first);
	faults();
	sink++;
}

// No call-frame information in these.
__asm__(".text\n"
	".type bare, @function\n"
	"bare: movl $1, 0\n"
	"ret\n"
	".size bare, . - bare\n"
	// Pushes all, rbp last, and uses it.
	".type bare_small, @function\n"
	"bare_small: push %r12\n"
	"push %rbx\n"
	"push %rbp\n"
	"mov $7, %ebp\n"
	"call bare_large\n"
	"pop %rbp\n"
	"pop %rbx\n"
	"pop %r12\n"
	"ret\n"
	".size bare_small, . - bare_small\n"
	".type bare_large, @function\n"
	"bare_large: sub $100008, %rsp\n"
	"orq $0, (%rsp)\n"
	"call *%rdi\n"
	"add $100008, %rsp\n"
	"ret\n"
	".size bare_large, . - bare_large\n"
	// Behind the end of a function: nobody's.
	"nop\n"
	".Lunnamed: sub $40, %rsp\n"
	"call *%rdi\n"
	"add $40, %rsp\n"
	"ret\n"
	".data\n"
	"unnamed: .quad .Lunnamed\n"
	".text\n");
extern void bare(void), bare_small(void (*)(void));
extern void (*unnamed)(void (*)(void));

CALLED void handler_in_leaf(void)
{
	signal(SIGSEGV, handler);
	bare();
	sink++;
}

CALLED void bare_chain(void)
{
	bare_small(called_back);
	sink++;
}

CALLED void unnamed_code(void)
{
	unnamed(called_back);
	sink++;
}

// A return address that was overwritten by zero, one that was pushed by hand, and
// calls that are jumps.
__asm__(".text\n"
	".type to_null, @function\n"
	"to_null: .cfi_startproc\n"
	"movq $0, (%rsp)\n"
	"ret\n"
	".cfi_endproc\n"
	".size to_null, . - to_null\n"
	".type jump_null, @function\n"
	"jump_null: .cfi_startproc\n"
	"xor %eax, %eax\n"
	"jmp *%rax\n"
	".cfi_endproc\n"
	".size jump_null, . - jump_null\n"
	".type push_return, @function\n"
	"push_return: .cfi_startproc\n"
	"jmp target\n"
	".cfi_endproc\n"
	".size push_return, . - push_return\n");
extern void to_null(void), jump_null(void), push_return(void);

CALLED void returns_to_null(void)
{
	to_null();
	sink++;
}

CALLED void jumps_to_null(void)
{
	jump_null();
	sink++;
}

CALLED void target(void)
{
	null_write();
	sink++;
}

CALLED void pushed_return(void)
{
	push_return();
	sink++;
}

CALLED void routine(void)
{
	null_write();
	sink++;
}

// Onto another stack for good: with a return address of zero at its end, or nothing.
__asm__(".text\n"
	".type begin_on, @function\n"
	"begin_on: mov %rdi, %rsp\n"
	"jmp *%rsi\n"
	".size begin_on, . - begin_on\n");
extern void begin_on(void *stack, void (*run)(void));

// Nothing can be read above it.
static inline char *own_stack(unsigned long bytes)
{
	char *stack = mmap(0, bytes + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mprotect(stack, bytes, PROT_READ | PROT_WRITE);
	return stack + bytes;
}

CALLED void thread_by_hand(void)
{
	begin_on(own_stack(64 << 10) - 24, routine);
}

// Its return address would lie beyond the mapping: whether there is one is not known.
CALLED void bottom_of_stack(void)
{
	begin_on(own_stack(64 << 10), routine);
}

// Onto another stack and back, as run-time systems call C.
__asm__(".text\n"
	".type switch_stack, @function\n"
	"switch_stack: .cfi_startproc\n"
	"push %rbp\n"
	".cfi_def_cfa_offset 16\n"
	".cfi_offset %rbp, -16\n"
	"mov %rsp, %rbp\n"
	".cfi_def_cfa_register %rbp\n"
	"mov %rdi, %rsp\n"
	"call *%rsi\n"
	"leave\n"
	".cfi_def_cfa %rsp, 8\n"
	"ret\n"
	".cfi_endproc\n"
	".size switch_stack, . - switch_stack\n");
extern void switch_stack(void *stack, void (*run)(void));

CALLED void on_own_stack(void)
{
	null_write();
	sink++;
}

CALLED void switched(void)
{
	switch_stack(own_stack(64 << 10) - 16, on_own_stack);
	sink++;
}

// A thread's own stack may lie anywhere.
CALLED void *switches(void *stack)
{
	switch_stack(stack ? stack : own_stack(64 << 10) - 16, on_own_stack);
	sink++;
	return 0;
}

CALLED void switched_in_thread(void)
{
	thread(switches, 0, 256 << 10);
	sink++;
}

// The thread's stack comes later, which puts it below.
CALLED void switched_ahead(void)
{
	thread(switches, own_stack(64 << 10) - 16, 256 << 10);
	sink++;
}

CALLED void switches_on(void)
{
	switch_stack(own_stack(64 << 10) - 16, on_own_stack);
	sink++;
}

CALLED void switched_twice(void)
{
	switch_stack(own_stack(64 << 10) - 16, switches_on);
	sink++;
}

CALLED void faults_on_own_stack(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void switched_handler(void)
{
	stack_t alternate = { own_stack(64 << 10) - (64 << 10), 0, 64 << 10 };
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK };
	sigaltstack(&alternate, 0);
	sigaction(SIGSEGV, &action, 0);
	switch_stack(own_stack(64 << 10) - 16, faults_on_own_stack);
	sink++;
}

CALLED void calls_nested(void (*run)(void))
{
	run();
	sink++;
}

#ifndef __clang__
// Called through code on the stack.
CALLED void nested(void)
{
	int local = sink;
	void nested_function(void)
	{
		*(volatile int *)hide(0) = local++;
		sink++;
	}
	calls_nested(nested_function);
	sink += local;
}
#endif

#ifdef __GLIBC__
static ucontext_t main_context, other_context;

CALLED void with_arguments(int a, int b, int c, int d, int e, int f, int g, int h)
{
	sink += a + b + c + d + e + f + g + h;
	null_write();
	sink++;
}

CALLED void many_arguments(void)
{
	getcontext(&other_context);
	other_context.uc_stack.ss_sp = own_stack(64 << 10) - (64 << 10);
	other_context.uc_stack.ss_size = 64 << 10;
	other_context.uc_link = &main_context;
	makecontext(&other_context, (void (*)(void))with_arguments, 8, 1, 2, 3, 4, 5, 6, 7, 8);
	swapcontext(&main_context, &other_context);
	sink++;
}
#endif

static int is_chosen(const char *scenario)
{
	const char *name = getenv("SCENARIO");
	return name && !strcmp(name, scenario);
}

__attribute__((constructor, used)) static void constructs(void)
{
	if (is_chosen("in_constructor"))
		null_write();
	sink++;
}

static const struct scenario scenarios[] = {
	{ "in_vfork", in_vfork },
	{ "smallest_stack", smallest_stack },
	{ "leaps_over_guard", leaps_over_guard },
	{ "own_restorer", own_restorer },
	{ "three_handlers", three_handlers },
	{ "handler_in_leaf", handler_in_leaf },
	{ "bare_chain", bare_chain },
	{ "unnamed_code", unnamed_code },
	{ "returns_to_null", returns_to_null },
	{ "jumps_to_null", jumps_to_null },
	{ "pushed_return", pushed_return },
	{ "thread_by_hand", thread_by_hand },
	{ "bottom_of_stack", bottom_of_stack },
	{ "switched", switched },
	{ "switched_in_thread", switched_in_thread },
	{ "switched_ahead", switched_ahead },
	{ "switched_twice", switched_twice },
	{ "switched_handler", switched_handler },
#ifndef __clang__
	{ "nested", nested },
#endif
#ifdef __GLIBC__
	{ "many_arguments", many_arguments },
#endif
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
