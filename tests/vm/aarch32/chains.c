/* Crashes of 32-bit ARM programs, by the name of a scenario.
 *
 * Chains, innermost call first, in the notation of tests/corpus/corpus.py. If a call does
 * not return, clang lets it overwrite the only copy of the return address; the next calls
 * are then lost. */
// chain null_write: null_write inner middle outer main <start>
// chain null_call: ? null_call inner middle outer main <start>
// chain wild_call: ? wild_call inner middle outer main <start>
// chain last_call: dies last_call [inner] [middle] outer main <start>
// chain recursion: recurse+ <depth>
// chain big_local: big_local inner middle outer main <start>
// chain leaf_arm: leaf_arm leaf_arm_caller leaf_arm_scenario inner middle outer main <start>
// chain leaf_thumb: leaf_thumb leaf_thumb_caller leaf_thumb_scenario inner middle outer main <start>
// chain pushed: called_back pushes_arm pushed inner middle outer main <start>
// chain variadic: sums variadic inner middle outer main <start>
// chain floats: null_write keeps_floats floats inner middle outer main <start>
// chain handled: in_handler handler <signal> faults handled inner middle outer main <start>
// chain handled_info: in_handler info_handler <signal> faults handled_info inner middle outer main <start>
// chain handled_arm: in_handler handler <signal> leaf_arm leaf_arm_caller handled_arm inner middle outer main <start>
// chain on_alternate: in_handler info_handler <signal> faults on_alternate inner middle outer main <start>
// chain first_instruction: in_handler handler <signal> first_of_all first_instruction inner middle outer main <start>
// chain handled_call: in_handler handler <signal> ? handled_call inner middle outer main <start>
// chain kernel_restorer: in_handler handler <signal> faults kernel_restorer inner middle outer main <start>
// chain sorts: null_write compare ... sorts inner middle outer main <start>
// chain measures: *strlen* measures inner middle outer main <start>
// chain copies: *mem*|?? copies inner middle outer main <start>
// chain prints: ... prints inner middle outer main <start>
// chain aborts: ... aborts [inner] [middle] outer main <start>
// chain in_thread: null_write thread <thread>
// chain kuser: ? exchanges kuser inner middle outer main <start>
// cause null_call: null_call
// cause wild_call: wild_jump
// cause measures: null_dereference|wild_pointer
// cause copies: null_dereference|wild_pointer
// cause aborts: abort
// cause recursion: stack_overflow
// cause big_local: stack_overflow
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../unwind/chain.h"

CALLED void null_write(void)
{
	*(volatile int *)hide(0) = 1;
}

CALLED void null_call(void)
{
	((void (*)(void))hide(0))();
	sink++;
}

CALLED void wild_call(void)
{
	((void (*)(void))hide(0x12345678))();
	sink++;
}

__attribute__((noinline, noipa, noreturn, used)) void dies(void)
{
	*(volatile int *)hide(0) = 1;
	__builtin_unreachable();
}

CALLED void last_call(void)
{
	dies();
}

CALLED int recurse(int depth)
{
	volatile char frame[256];
	frame[depth & 255] = 1;
	return recurse(depth + 1) + frame[0];
}

static void recursion(void)
{
	sink += recurse(0);
}

CALLED void big_local(void)
{
	volatile char frame[64 << 20];
	frame[0] = 1;
	sink += frame[sink];
}

/* Assembly without tables: a leaf that has not moved the stack pointer, and its caller,
 * of each instruction set; and a function that pushes more than it says. */
__asm__(".text\n"
	".arm\n"
	".type leaf_arm, %function\n"
	"leaf_arm: mov r2, #0\n"
	"	ldr r0, [r2, #16]\n"
	"	bx lr\n"
	".size leaf_arm, . - leaf_arm\n"
	".type leaf_arm_caller, %function\n"
	"leaf_arm_caller: stmfd sp!, {r4, r5, lr}\n"
	"	sub sp, sp, #20\n"
	"	bl leaf_arm\n"
	"	add sp, sp, #20\n"
	"	ldmfd sp!, {r4, r5, pc}\n"
	".size leaf_arm_caller, . - leaf_arm_caller\n"
	".type pushes_arm, %function\n"
	"pushes_arm: mov ip, sp\n"
	"	stmfd sp!, {fp, ip, lr, pc}\n"
	"	sub fp, ip, #4\n"
	"	sub sp, sp, #1024\n"
	"	sub sp, sp, r0\n"
	"	blx r1\n"
	"	ldmea fp, {fp, sp, pc}\n"
	".size pushes_arm, . - pushes_arm\n"
	".thumb\n"
	".syntax unified\n"
	".type leaf_thumb, %function\n"
	".thumb_func\n"
	"leaf_thumb: movs r2, #0\n"
	"	ldr r0, [r2, #16]\n"
	"	bx lr\n"
	".size leaf_thumb, . - leaf_thumb\n"
	".type leaf_thumb_caller, %function\n"
	".thumb_func\n"
	"leaf_thumb_caller: push {r4, r5, lr}\n"
	"	sub sp, #20\n"
	"	bl leaf_thumb\n"
	"	add sp, #20\n"
	"	pop {r4, r5, pc}\n"
	".size leaf_thumb_caller, . - leaf_thumb_caller\n"
	".align 2\n"
#ifdef __thumb__
	".thumb\n"
#else
	".arm\n"
#endif
);
void leaf_arm_caller(void);
void leaf_thumb_caller(void);
void pushes_arm(int size, void (*run)(void));

CALLED void called_back(void)
{
	*(volatile int *)hide(0) = 1;
}

CALLED void leaf_arm_(void) __asm__("leaf_arm_scenario");
void leaf_arm_(void)
{
	leaf_arm_caller();
	sink++;
}

CALLED void pushed(void)
{
	pushes_arm(64, called_back);
	sink++;
}

CALLED int sums(int count, ...)
{
	va_list list;
	int sum = 0;
	va_start(list, count);
	while (count-- > 0)
		sum += *va_arg(list, volatile int *);
	va_end(list);
	return sum;
}

CALLED void variadic(void)
{
	int here = 1;
	sink += sums(2, &here, (int *)hide(0));
}

CALLED double keeps_floats(double a, double b)
{
	double c = a * b, d = a + b, e = a - b;
	null_write();
	return c * d + e;
}

CALLED void floats(void)
{
	sink += (int)keeps_floats(sink, 2.5);
}

CALLED void in_handler(void)
{
	*(volatile int *)hide(0) = 1;
}

static void handler(int number)
{
	in_handler();
	sink += number;
}

static void info_handler(int number, siginfo_t *info, void *context)
{
	in_handler();
	sink += number + info->si_code + (context != NULL);
}

static void catch_with(int flags)
{
	struct sigaction action;
	memset(&action, 0, sizeof(action));
	if (flags & SA_SIGINFO)
		action.sa_sigaction = info_handler;
	else
		action.sa_handler = handler;
	/* The second one, in the handler, kills. */
	action.sa_flags = flags | SA_RESETHAND;
	sigaction(SIGSEGV, &action, NULL);
	sigset_t open;
	sigemptyset(&open);
	sigaddset(&open, SIGSEGV);
	sigprocmask(SIG_UNBLOCK, &open, NULL);
}

CALLED void faults(void)
{
	*(volatile int *)hide(4) = 1;
	sink++;
}

CALLED void handled(void)
{
	catch_with(SA_NODEFER);
	faults();
	sink++;
}

CALLED void handled_info(void)
{
	catch_with(SA_NODEFER | SA_SIGINFO);
	faults();
	sink++;
}

CALLED void handled_arm(void)
{
	catch_with(SA_NODEFER);
	leaf_arm_caller();
	sink++;
}

CALLED void on_alternate(void)
{
	static char room[64 << 10];
	stack_t stack = { .ss_sp = room, .ss_size = sizeof(room) };
	sigaltstack(&stack, NULL);
	catch_with(SA_NODEFER | SA_SIGINFO | SA_ONSTACK);
	faults();
	sink++;
}

__asm__(".text\n"
	".thumb\n"
	".type first_of_all, %function\n"
	".thumb_func\n"
	"first_of_all: str r0, [r0]\n"
	"	push {r4, lr}\n"
	"	pop {r4, pc}\n"
	".size first_of_all, . - first_of_all\n"
	".align 2\n"
#ifdef __thumb__
	".thumb\n"
#else
	".arm\n"
#endif
);
void first_of_all(unsigned long);

CALLED void first_instruction(void)
{
	catch_with(SA_NODEFER);
	first_of_all(hide(0));
	sink++;
}

CALLED void handled_call(void)
{
	catch_with(SA_NODEFER);
	((void (*)(void))hide(0))();
	sink++;
}

/* Without SA_RESTORER handlers return to code in [sigpage]. */
CALLED void kernel_restorer(void)
{
	struct {
		void (*handler)(int);
		unsigned long flags;
		void (*restorer)(void);
		unsigned char mask[8];
	} action = { handler, SA_NODEFER | SA_RESETHAND, 0, { 0 } };
	syscall(SYS_rt_sigaction, SIGSEGV, &action, NULL, 8);
	faults();
	sink++;
}

static int compare(const void *a, const void *b)
{
	null_write();
	return *(const int *)a - *(const int *)b;
}

CALLED void sorts(void)
{
	int numbers[] = { 3, 1, 2 };
	qsort(numbers, 3, sizeof(int), compare);
	sink += numbers[0];
}

CALLED void measures(void)
{
	sink += (int)strlen((const char *)hide(16));
}

CALLED void copies(void)
{
	static char to[4096];
	memcpy(to, (const void *)hide(64), hide(4000));
	sink += to[1];
}

CALLED void prints(void)
{
	char text[64];
	sink += snprintf(text, sizeof(text), "%s %d", (const char *)hide(16), sink);
}

CALLED void aborts(void)
{
	abort();
}

static void *thread(void *unused)
{
	null_write();
	return unused;
}

static void in_thread(void)
{
	pthread_t other;
	pthread_create(&other, NULL, thread, NULL);
	pthread_join(other, NULL);
}

/* __kuser_cmpxchg, Documentation/arch/arm/kernel_user_helpers.rst */
CALLED int exchanges(int *place)
{
	int done = ((int (*)(int, int, volatile int *))0xffff0fc0)(0, 1, place);
	return done + 1;
}

CALLED void kuser(void)
{
	sink += exchanges((int *)hide(0));
}

CALLED void leaf_thumb_scenario(void)
{
	leaf_thumb_caller();
	sink++;
}

static const struct scenario scenarios[] = {
	{ "null_write", null_write },
	{ "null_call", null_call },
	{ "wild_call", wild_call },
	{ "last_call", last_call },
	{ "recursion", recursion },
	{ "big_local", big_local },
	{ "leaf_arm", leaf_arm_ },
	{ "leaf_thumb", leaf_thumb_scenario },
	{ "pushed", pushed },
	{ "variadic", variadic },
	{ "floats", floats },
	{ "handled", handled },
	{ "handled_info", handled_info },
	{ "handled_arm", handled_arm },
	{ "on_alternate", on_alternate },
	{ "first_instruction", first_instruction },
	{ "handled_call", handled_call },
	{ "kernel_restorer", kernel_restorer },
	{ "sorts", sorts },
	{ "measures", measures },
	{ "copies", copies },
	{ "prints", prints },
	{ "aborts", aborts },
	{ "in_thread", in_thread },
	{ "kuser", kuser },
	{ NULL, NULL },
};

int main(int argc, char **argv)
{
	return start(argc, argv, scenarios);
}
