/* switched WHERE: crashes on a stack that the program made itself.
 *
 * main      called from main
 * thread    in a thread, that of its own making lies below the thread's stack
 * ahead     the same, but made before the thread: above its stack
 * handler   as main, in a handler on an alternate stack
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, write); with `handler` that is the
 * second delivery, the first is handled.
 * Chain: crash on_stack call_on switches, then main (with `thread` and `ahead`
 * body); with `handler` crash on_signal <signal> crash on_stack ... */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "crash.h"

#define BYTES 65536

/* Calls run(stack) on a stack that ends at `stack`. */
extern void call_on(void *stack, int (*run)(int));

__asm__(".text\n"
	".globl call_on\n"
#ifdef __aarch64__
	".type call_on, %function\n"
	"call_on: .cfi_startproc\n"
	"stp x29, x30, [sp, #-16]!\n"
	".cfi_def_cfa_offset 16\n"
	".cfi_offset 29, -16\n"
	".cfi_offset 30, -8\n"
	"mov x29, sp\n"
	".cfi_def_cfa_register 29\n"
	"mov sp, x0\n"
	"blr x1\n"
	"mov sp, x29\n"
	".cfi_def_cfa_register 31\n"
	"ldp x29, x30, [sp], #16\n"
	".cfi_def_cfa_offset 0\n"
#else
	".type call_on, @function\n"
	"call_on: .cfi_startproc\n"
	"push %rbp\n"
	".cfi_def_cfa_offset 16\n"
	".cfi_offset %rbp, -16\n"
	"mov %rsp, %rbp\n"
	".cfi_def_cfa_register %rbp\n"
	"mov %rdi, %rsp\n"
	"call *%rsi\n"
	"leave\n"
	".cfi_def_cfa %rsp, 8\n"
#endif
	"ret\n"
	".cfi_endproc\n"
	".size call_on, . - call_on\n");

FRAME int crash(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x + 1;
}

static void on_signal(int sig)
{
	crash(sig);
	KEEP_FRAME();
}

FRAME int on_stack(int x)
{
	int y = crash(x + 1);
	KEEP_FRAME();
	return y + 1;
}

/* The end of a stack with a page behind it that cannot be touched. */
FRAME char *made(void)
{
	char *start = mmap(0, BYTES + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(start, BYTES, PROT_READ | PROT_WRITE);
	return start + BYTES;
}

FRAME void switches(char *end)
{
	call_on(end, on_stack);
	KEEP_FRAME();
}

FRAME void *body(void *end)
{
	switches(end ? end : made());
	KEEP_FRAME();
	return 0;
}

int main(int argc, char **argv)
{
	const char *where = argc > 1 ? argv[1] : "main";
	char *end = strcmp(where, "thread") ? made() : 0;

	if (!strcmp(where, "handler")) {
		stack_t alternate = { .ss_size = BYTES, .ss_sp = made() - BYTES };
		struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

		sigaltstack(&alternate, 0);
		sigaction(SIGSEGV, &action, 0);
	}
	if (!strcmp(where, "thread") || !strcmp(where, "ahead")) {
		pthread_t id;

		pthread_create(&id, 0, body, end);
		pthread_join(id, 0);
	}
	switches(end);
	KEEP_FRAME();
	return 0;
}
