/* deep N: goes N calls down (default 40) and writes through a null pointer.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0).
 * Chain: bottom, then N times descend, then main. */
#include <stdlib.h>

#include "crash.h"

FRAME int bottom(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x;
}

FRAME int descend(int left)
{
	int y = left > 1 ? descend(left - 1) : bottom(left);
	KEEP_FRAME();
	return y + 1;
}

int main(int argc, char **argv)
{
	int y = descend(argc > 1 ? atoi(argv[1]) : 40);
	KEEP_FRAME();
	return y & 1;
}
