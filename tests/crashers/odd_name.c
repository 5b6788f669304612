/* odd_name [NAME]: calls itself NAME (any bytes, by PR_SET_NAME) if there is
 * one, then writes to a read-only page. Its file may have any name too.
 *
 * Dies by SIGSEGV (SEGV_ACCERR, write).
 * Chain: odd_crash main. */
#include <sys/mman.h>
#include <sys/prctl.h>

#include "crash.h"

static volatile int *volatile page;

FRAME int odd_crash(int x)
{
	*page = x;
	KEEP_FRAME();
	return x;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		prctl(PR_SET_NAME, argv[1], 0, 0, 0);
	page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int y = odd_crash(argc);
	KEEP_FRAME();
	return y;
}
