/* Crashes with its environment within reach, and says of its arguments and its
 * environment what the first argument names: reports must have nothing of the latter.
 *
 *   pointers   registers point at the strings
 *   jump       the instruction pointer is among them
 *   stack      the stack pointer is
 *   frame      the stack is another one, and the frame pointer leads there
 *   title      the arguments' last zero is overwritten
 *   all        prctl(2): arguments go on to the environment's end
 *   inside     prctl(2): arguments begin in the middle of the environment
 *   swapped    prctl(2): arguments are where the environment is, and the reverse
 *   taken      prctl(2): arguments are where the environment is, which is nowhere
 *   start      prctl(2): the stack begins at the environment's end
 *   low        prctl(2): the stack begins far below
 *   moved      prctl(2): arguments in a page of their own, as systemd has it
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

extern char **environ;
static unsigned long arg_start, arg_end, env_start, env_end;

/* What a process without CAP_SYS_RESOURCE may set too, but only all at once. */
static struct prctl_mm_map map;

static void find_strings(void)
{
	unsigned long field[52] = {};
	FILE *file = fopen("/proc/self/stat", "r");
	char line[4096], *at;

	if (!file || !fgets(line, sizeof(line), file))
		exit(2);
	fclose(file);
	at = strrchr(line, ')') + 4;
	for (int i = 4; i <= 51; i++)
		field[i] = strtoul(at, &at, 10);
	map.start_code = field[26];
	map.end_code = field[27];
	map.start_stack = field[28];
	map.start_data = field[45];
	map.end_data = field[46];
	map.start_brk = field[47];
	map.brk = (unsigned long)sbrk(0);
	map.arg_start = field[48];
	map.arg_end = field[49];
	map.env_start = field[50];
	map.env_end = field[51];
	map.exe_fd = -1;
	arg_start = field[48];
	arg_end = field[49];
	env_start = field[50];
	env_end = field[51];
}

static int set_any;

static void set(int what, unsigned long value)
{
	set_any = 1;
	switch (what) {
	case PR_SET_MM_ARG_START: map.arg_start = value; break;
	case PR_SET_MM_ARG_END: map.arg_end = value; break;
	case PR_SET_MM_ENV_START: map.env_start = value; break;
	case PR_SET_MM_ENV_END: map.env_end = value; break;
	case PR_SET_MM_START_STACK: map.start_stack = value; break;
	}
}

static void apply(void)
{
	if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof(map), 0)) {
		perror("PR_SET_MM_MAP");
		exit(3);
	}
}

/* With a pointer to the environment in every register that a function may use. */
__attribute__((noinline, noclone)) static void touch(unsigned long at, unsigned long end)
{
	unsigned long middle = (at + end) / 2;

#if defined(__x86_64__)
	asm volatile("mov %1, %%r8; mov %0, %%r9; mov %2, %%r10; mov %1, %%rdi; mov %0, %%rsi;"
		     "mov %2, %%rdx; movl $1, 8" ::"r"(at), "r"(middle), "r"(end)
		     : "r8", "r9", "r10", "rdi", "rsi", "rdx", "memory");
#else
	asm volatile("mov x8, %1; mov x9, %0; mov x10, %2; mov x0, %1; mov x1, %0; mov x2, %2;"
		     "mov x11, #8; str wzr, [x11]" ::"r"(at), "r"(middle), "r"(end)
		     : "x0", "x1", "x2", "x8", "x9", "x10", "x11", "memory");
#endif
}

__attribute__((noinline, noclone)) static void crash_on(unsigned long sp, unsigned long fp)
{
#if defined(__x86_64__)
	asm volatile("mov %0, %%rsp; mov %1, %%rbp; movl $1, 8" ::"r"(sp), "r"(fp) : "memory");
#else
	asm volatile("mov sp, %0; mov x29, %1; mov x11, #8; str wzr, [x11]" ::"r"(sp), "r"(fp)
		     : "x11", "memory");
#endif
}

/*
 * Below the strings the kernel leaves up to 8 KB, at random, that nobody has touched. A page
 * that is not there ends the copy of perf events, and the strings are not in it.
 */
static void touch_pages_below_strings(void)
{
	volatile char here = 0;

	for (volatile char *at = &here; (unsigned long)at < arg_start; at += 4096)
		(void)*at;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	find_strings();
	touch_pages_below_strings();
	if (!strcmp(how, "jump"))
		((void (*)(void))(env_start + 24))();
	if (!strcmp(how, "stack"))
		crash_on((env_start + 16) & ~15ul, 0);
	if (!strcmp(how, "frame")) {
		char *stack = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		crash_on((unsigned long)stack + 32768, (env_start + 16) & ~15ul);
	}
	if (!strcmp(how, "title"))
		memset((void *)arg_start, 'x', arg_end - arg_start);
	if (!strcmp(how, "all"))
		set(PR_SET_MM_ARG_END, env_end);
	if (!strcmp(how, "inside")) {
		set(PR_SET_MM_ARG_END, env_end);
		set(PR_SET_MM_ARG_START, env_start + 5);
	}
	if (!strcmp(how, "swapped")) {
		set(PR_SET_MM_ARG_END, env_end);
		set(PR_SET_MM_ARG_START, env_start);
		set(PR_SET_MM_ENV_START, arg_start);
		set(PR_SET_MM_ENV_END, arg_end);
	}
	if (!strcmp(how, "taken")) {
		set(PR_SET_MM_ARG_END, env_end);
		set(PR_SET_MM_ARG_START, env_start);
		set(PR_SET_MM_ENV_START, env_end);
	}
	if (!strcmp(how, "start"))
		set(PR_SET_MM_START_STACK, env_end - 8);
	if (!strcmp(how, "low"))
		set(PR_SET_MM_START_STACK, 0x200000);
	if (!strcmp(how, "moved")) {
		char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		strcpy(page, "another title");
		set(PR_SET_MM_ARG_START, (unsigned long)page);
		set(PR_SET_MM_ARG_END, (unsigned long)page + 14);
	}
	if (set_any)
		apply();
	touch(env_start, env_end);
	return 0;
}
