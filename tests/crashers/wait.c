/* Waits for a byte on its standard input, then writes through a null pointer, so
 * that whoever starts it knows its process id before it dies.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0); ends with status 0 at end of file.
 * Chain: late_crash main. */
#include <unistd.h>

#include "crash.h"

FRAME int late_crash(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x;
}

int main(void)
{
	char byte;

	if (read(0, &byte, 1) != 1)
		return 0;
	int y = late_crash(byte);
	KEEP_FRAME();
	return y;
}
