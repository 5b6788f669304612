/* Writes through a null pointer, five calls below main.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, write).
 * Chain: level_five level_four level_three level_two level_one main. */
#include "crash.h"

FRAME int level_five(int x)
{
	*nowhere = x;
	KEEP_FRAME();
	return x + 5;
}

FRAME int level_four(int x)
{
	int y = level_five(x + 4);
	KEEP_FRAME();
	return y + 4;
}

FRAME int level_three(int x)
{
	int y = level_four(x + 3);
	KEEP_FRAME();
	return y + 3;
}

FRAME int level_two(int x)
{
	int y = level_three(x + 2);
	KEEP_FRAME();
	return y + 2;
}

FRAME int level_one(int x)
{
	int y = level_two(x + 1);
	KEEP_FRAME();
	return y + 1;
}

int main(int argc, char **argv)
{
	(void)argv;
	int y = level_one(argc);
	KEEP_FRAME();
	return y & 1;
}
