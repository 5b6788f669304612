/* Programs that end themselves, or that the C library ends: aborts KIND.
 *
 *   abort      abort(3)
 *   assert     assert(3) of what is false
 *   smash      an array overflows up to the canary: -fstack-protector-all
 *   fortify    strcpy(3) into too small an array: -D_FORTIFY_SOURCE=2, not of musl
 *   twice      frees one allocation twice
 *   middle     frees what malloc(3) did not return
 *   beyond     overwrites what the allocator keeps behind an allocation, and frees it
 *
 * With glibc each dies by SIGABRT (SI_TKILL). With musl abort and assert do; smash
 * and the heap's three die by SIGSEGV (SI_KERNEL on x86_64, SEGV_MAPERR elsewhere).
 * Chain: ... do_KIND main. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "crash.h"

static volatile size_t too_long = 64;
static volatile int one = 1;
static const char *volatile text = "longer than that";

FRAME int do_abort(void)
{
	abort();
	KEEP_FRAME();
	return 1;
}

FRAME int do_assert(void)
{
	assert(one == 2);
	KEEP_FRAME();
	return 1;
}

FRAME int do_smash(void)
{
	volatile char room[16];

	for (size_t i = 0; i < too_long; i++)
		room[i] = 'S';
	KEEP_FRAME();
	return room[0];
}

FRAME int do_fortify(void)
{
	char room[8];

	strcpy(room, text);
	KEEP_FRAME();
	return ((volatile char *)room)[0];
}

FRAME int do_twice(void)
{
	char *volatile p = malloc(24);

	free(p);
	free(p);
	KEEP_FRAME();
	return 1;
}

FRAME int do_middle(void)
{
	char *volatile p = malloc(4000);

	free(p + one * 24);
	KEEP_FRAME();
	return 1;
}

FRAME int do_beyond(void)
{
	/* A size that nobody has freed before, so that they lie one behind the other. */
	char *volatile p = malloc(3000), *volatile q = malloc(5000), *volatile r = malloc(3000);

	/* glibc takes B for the size of a mapping. */
	memset(p, 'A', 3000 + one * 24);
	free(q);
	free(r);
	free(p);
	KEEP_FRAME();
	return 1;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	int y = 0;

	if (!strcmp(kind, "abort"))
		y = do_abort();
	if (!strcmp(kind, "assert"))
		y = do_assert();
	if (!strcmp(kind, "smash"))
		y = do_smash();
	if (!strcmp(kind, "fortify"))
		y = do_fortify();
	if (!strcmp(kind, "twice"))
		y = do_twice();
	if (!strcmp(kind, "middle"))
		y = do_middle();
	if (!strcmp(kind, "beyond"))
		y = do_beyond();
	KEEP_FRAME();
	return y & 1;
}
