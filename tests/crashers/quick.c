/* Dies as fast as a program can: nothing but the write through a null pointer.
 * Built dynamic and static; both are gone within a millisecond of their exec.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, write).
 * Chain: quick_crash main. */
#include "crash.h"

FRAME int quick_crash(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x + 1;
}

int main(int argc, char **argv)
{
	(void)argv;
	int y = quick_crash(argc);
	KEEP_FRAME();
	return y & 1;
}
