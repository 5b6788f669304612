/* One bad access, by its kind: access read | write | readonly | execute |
 * null_call | noncanonical.
 *
 * Each dies by SIGSEGV:
 *   read          reads an int at 0x8              SEGV_MAPERR  0x8
 *   write         writes an int at 0x18            SEGV_MAPERR  0x18
 *   readonly      writes to a read-only page       SEGV_ACCERR  the page
 *   execute       jumps into a page without PROT_EXEC  SEGV_ACCERR  the page
 *   null_call     calls a null function pointer    SEGV_MAPERR  0
 *   noncanonical  reads at 0x4141414141414141: a general-protection fault on
 *                 x86_64, SI_KERNEL with address 0
 * Chain: do_<kind> main (the two bad calls: their caller is do_<kind>). */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "crash.h"

static volatile uintptr_t where;

FRAME int do_read(void)
{
	int y = *(volatile int *)where;
	KEEP_FRAME();
	return y + 1;
}

FRAME int do_write(void)
{
	*(volatile int *)where = 7;
	KEEP_FRAME();
	return 1;
}

FRAME int do_readonly(void)
{
	*(volatile int *)where = 7;
	KEEP_FRAME();
	return 2;
}

FRAME int do_execute(void)
{
	int y = ((int (*)(void))where)();
	KEEP_FRAME();
	return y + 3;
}

FRAME int do_null_call(void)
{
	int y = ((int (*)(void))where)();
	KEEP_FRAME();
	return y + 4;
}

FRAME int do_noncanonical(void)
{
	int y = *(volatile int *)where;
	KEEP_FRAME();
	return y + 5;
}

static uintptr_t page(int prot)
{
	void *p = mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? 0 : (uintptr_t)p;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	int y = 64;

	if (!strcmp(kind, "read")) {
		where = 8;
		y = do_read();
	} else if (!strcmp(kind, "write")) {
		where = 0x18;
		y = do_write();
	} else if (!strcmp(kind, "readonly")) {
		where = page(PROT_READ);
		y = do_readonly();
	} else if (!strcmp(kind, "execute")) {
		where = page(PROT_READ | PROT_WRITE);
		y = do_execute();
	} else if (!strcmp(kind, "null_call")) {
		where = 0;
		y = do_null_call();
	} else if (!strcmp(kind, "noncanonical")) {
		where = 0x4141414141414141;
		y = do_noncanonical();
	} else {
		fprintf(stderr, "access: no such kind: %s\n", kind);
	}
	KEEP_FRAME();
	return y;
}
