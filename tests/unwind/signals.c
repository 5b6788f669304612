// Crashes in handlers of crashes: the first signal is handled, the second kills.
//
// chain handled: in_handler handler <signal> faults handled inner middle outer main <start>
// chain on_alternate: in_handler handler <signal> faults on_alternate inner middle outer main <start>
// chain first_instruction: in_handler handler <signal> first first_instruction inner middle outer main <start>
// chain handled_call: in_handler handler <signal> ? handled_call inner middle outer main <start>
#define _GNU_SOURCE
#include "chain.h"
#include <signal.h>

static char alternate[64 << 10];

CALLED void in_handler(void)
{
	*(volatile int *)hide(16) = 1;
	sink++;
}

CALLED void handler(int signal, siginfo_t *info, void *context)
{
	sink += signal + !!info + !!context;
	in_handler();
	sink++;
}

static void install(int flags)
{
	struct sigaction action = { 0 };
	action.sa_sigaction = handler;
	action.sa_flags = SA_SIGINFO | flags;
	sigaction(SIGSEGV, &action, 0);
}

CALLED void faults(void)
{
	*(volatile int *)hide(0) = 1;
	sink++;
}

CALLED void handled(void)
{
	install(0);
	faults();
	sink++;
}

CALLED void on_alternate(void)
{
	stack_t stack = { .ss_sp = alternate, .ss_size = sizeof(alternate) };
	sigaltstack(&stack, 0);
	install(SA_ONSTACK);
	faults();
	sink++;
}

// Its first instruction faults. The byte before it belongs to a function whose
// row is another.
__asm__(".text\n"
	".type before_first, @function\n"
	"before_first: .cfi_startproc\n"
	"sub $1000, %rsp\n"
	".cfi_def_cfa_offset 1008\n"
	"nop\n"
	".cfi_endproc\n"
	".size before_first, . - before_first\n"
	".type first, @function\n"
	"first: .cfi_startproc\n"
	"movl $1, (%rdi)\n"
	"ret\n"
	".cfi_endproc\n"
	".size first, . - first\n");
extern void first(void *);

CALLED void first_instruction(void)
{
	install(0);
	first((void *)hide(0));
	sink++;
}

CALLED void handled_call(void)
{
	install(0);
	((void (*)(void))hide(0))();
	sink++;
}

static const struct scenario scenarios[] = {
	{ "handled", handled },
	{ "on_alternate", on_alternate },
	{ "first_instruction", first_instruction },
	{ "handled_call", handled_call },
	{ 0, 0 },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
