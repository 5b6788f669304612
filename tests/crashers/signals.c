/* signals KIND: dies by the signal that KIND names, each in a function of its own.
 *
 *   bus   read past the end of a mapped file (BUS_ADRERR)
 *   ill   an instruction that is none (ILL_ILLOPN)
 *   fpe   a division by zero (x86 alone: arm64 gives 0) (FPE_INTDIV)
 *   abrt  abort(3) (SI_TKILL)
 *   trap  a breakpoint without a debugger (SI_KERNEL; arm64 TRAP_BRKPT)
 *   sys   a system call that seccomp traps (SYS_SECCOMP): getppid
 *
 * Chain: die_KIND main (abrt: with the C library's functions above). */
#define _GNU_SOURCE
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "crash.h"

static volatile int zero;

FRAME int die_bus(int x)
{
	int fd = memfd_create("short", 0);
	volatile char *at = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	int y = at[16];
	KEEP_FRAME();
	return x + y;
}

FRAME int die_ill(int x)
{
#if defined(__x86_64__)
	__asm__ volatile("ud2");
#else
	__asm__ volatile(".inst 0");
#endif
	KEEP_FRAME();
	return x;
}

FRAME int die_fpe(int x)
{
	int y = x / zero;
	KEEP_FRAME();
	return y;
}

FRAME int die_abrt(int x)
{
	abort();
	KEEP_FRAME();
	return x;
}

FRAME int die_trap(int x)
{
#if defined(__x86_64__)
	__asm__ volatile("int3");
#else
	__asm__ volatile("brk #0");
#endif
	KEEP_FRAME();
	return x;
}

FRAME int die_sys(int x)
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
	x += syscall(SYS_getppid);
	KEEP_FRAME();
	return x;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	int y = 0;

	if (!strcmp(kind, "bus"))
		y = die_bus(argc);
	if (!strcmp(kind, "ill"))
		y = die_ill(argc);
	if (!strcmp(kind, "fpe"))
		y = die_fpe(argc);
	if (!strcmp(kind, "abrt"))
		y = die_abrt(argc);
	if (!strcmp(kind, "trap"))
		y = die_trap(argc);
	if (!strcmp(kind, "sys"))
		y = die_sys(argc);
	KEEP_FRAME();
	return y & 1;
}
