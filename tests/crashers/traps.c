/* Signals that are no access to memory, and bus errors, each by its kind: traps KIND.
 *
 *   zero      an int divided by zero                       FPE_INTDIV
 *   least     INT_MIN / -1                                 FPE_INTDIV
 *   wide      a 64-bit division of which 8 bytes hold zero FPE_INTDIV
 *   byte      a division by a byte that is zero            FPE_INTDIV
 *   large     128 bits divided by 3: too large a quotient  FPE_INTDIV
 *   float     1.0 / 0.0, where that is asked to trap       FPE_FLTDIV
 *   invalid   0.0 / 0.0, likewise                          FPE_FLTINV
 *   huge      1e300 * 1e300, likewise                      FPE_FLTOVF
 *   x87       1.0L / 0.0L, likewise                        FPE_FLTDIV
 *   ud2       the instruction that is none on purpose      ILL_ILLOPN
 *   none      a byte that is no instruction                ILL_ILLOPN
 *   int3      a breakpoint without a debugger              SI_KERNEL
 *   int_3     the same in two bytes                        SI_KERNEL
 *   step      a single step without a debugger             TRAP_TRACE
 *   seccomp   getppid(2), which a filter traps             SYS_SECCOMP
 *   bus       reads past the end of a truncated file       BUS_ADRERR
 *   write     writes there                                 BUS_ADRERR
 *   aligned   reads an int beside a multiple of 4, where alignment is checked (AC)
 *                                                          BUS_ADRALN
 *   segment   pushes with a stack pointer that is no address (SIGBUS, SI_KERNEL)
 *
 * All of x86_64. Chain: do_KIND main. */
#define _GNU_SOURCE
#include <fenv.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crash.h"

static volatile int zero, least = INT_MIN, minus = -1;
static volatile int64_t wide_zero;
static volatile double float_zero, huge = 1e300;
static volatile long double long_zero;

FRAME int do_zero(void)
{
	int y = least / zero;
	KEEP_FRAME();
	return y;
}

FRAME int do_least(void)
{
	int y = least / minus;
	KEEP_FRAME();
	return y;
}

FRAME int do_wide(void)
{
	int64_t y = INT64_MAX / wide_zero;
	KEEP_FRAME();
	return (int)y;
}

FRAME int do_byte(void)
{
	__asm__ volatile("xor %%ecx, %%ecx\n\tmov $0x1234, %%eax\n\tdivb %%ch" : : : "rax", "rcx");
	KEEP_FRAME();
	return 1;
}

FRAME int do_large(void)
{
	__asm__ volatile("mov $3, %%r9d\n\tmov $7, %%edx\n\txor %%eax, %%eax\n\tdivq %%r9" : : : "rax", "rdx", "r9");
	KEEP_FRAME();
	return 1;
}

FRAME int do_float(void)
{
	feenableexcept(FE_DIVBYZERO);
	double y = 1.0 / float_zero;
	KEEP_FRAME();
	return y > 1;
}

FRAME int do_invalid(void)
{
	feenableexcept(FE_INVALID);
	double y = float_zero / float_zero;
	KEEP_FRAME();
	return y > 1;
}

FRAME int do_huge(void)
{
	feenableexcept(FE_OVERFLOW);
	double y = huge * huge;
	KEEP_FRAME();
	return y > 1;
}

FRAME int do_x87(void)
{
	feenableexcept(FE_DIVBYZERO);
	volatile long double y = 1.0L / long_zero;
	/* x87 tells of it at the next instruction. */
	__asm__ volatile("fwait");
	KEEP_FRAME();
	return y > 1;
}

FRAME int do_ud2(void)
{
	__asm__ volatile("ud2");
	KEEP_FRAME();
	return 1;
}

FRAME int do_none(void)
{
	__asm__ volatile(".byte 0x06");
	KEEP_FRAME();
	return 1;
}

FRAME int do_int3(void)
{
	__asm__ volatile("int3");
	KEEP_FRAME();
	return 1;
}

FRAME int do_int_3(void)
{
	__asm__ volatile(".byte 0xcd, 3");
	KEEP_FRAME();
	return 1;
}

FRAME int do_step(void)
{
	__asm__ volatile("pushfq\n\torl $0x100, (%%rsp)\n\tpopfq\n\tnop\n\tnop" : : : "cc", "memory");
	KEEP_FRAME();
	return 1;
}

FRAME int do_seccomp(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { .len = 4, .filter = code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
	int y = (int)syscall(SYS_getppid);
	KEEP_FRAME();
	return y;
}

/* Two pages of a file that has 5,000 bytes, and then 100. */
static volatile char *truncated(void)
{
	int fd = memfd_create("short", 0);

	if (ftruncate(fd, 5000))
		return NULL;
	volatile char *at = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return ftruncate(fd, 100) ? NULL : at;
}

FRAME int do_bus(void)
{
	volatile char *at = truncated();
	int y = at[4096 + 16];

	KEEP_FRAME();
	return y;
}

FRAME int do_write(void)
{
	volatile char *at = truncated();

	at[4096 + 32] = 1;
	KEEP_FRAME();
	return at[0];
}

FRAME int do_aligned(void)
{
	static char room[16] __attribute__((aligned(16)));
	int y;

	__asm__ volatile("pushfq\n\torl $0x40000, (%%rsp)\n\tpopfq\n\tmovl 2(%1), %0" : "=r"(y) : "r"(room) : "cc", "memory");
	KEEP_FRAME();
	return y;
}

FRAME int do_segment(void)
{
	__asm__ volatile("movabs $0x4242424242424242, %%rsp\n\tpush %%rax" : : : "memory");
	KEEP_FRAME();
	return 1;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *kind;
		int (*die)(void);
	} all[] = {
		{ "zero", do_zero },       { "least", do_least },     { "wide", do_wide },
		{ "byte", do_byte },       { "large", do_large },     { "float", do_float },
		{ "invalid", do_invalid }, { "huge", do_huge },       { "x87", do_x87 },
		{ "ud2", do_ud2 },         { "none", do_none },       { "int3", do_int3 },
		{ "int_3", do_int_3 },     { "step", do_step },       { "seccomp", do_seccomp },
		{ "bus", do_bus },         { "write", do_write },     { "aligned", do_aligned },
		{ "segment", do_segment },
	};
	int y = 0;

	for (size_t i = 0; argc > 1 && i < sizeof(all) / sizeof(*all); i++)
		if (!strcmp(argv[1], all[i].kind))
			y = all[i].die();
	KEEP_FRAME();
	return y & 1;
}
