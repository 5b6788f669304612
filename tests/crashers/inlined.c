/* Writes through a null pointer in a call that the compiler put into another one.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, write).
 * Chain: store_value (inlined) add_value (inlined) holder main. */
#include "crash.h"

#define INLINED static inline __attribute__((always_inline))

INLINED void store_value(void)
{
	*nowhere = 1; /* line 11 */
}

INLINED int add_value(int x)
{
	store_value(); /* line 16 */
	return x + 1;
}

FRAME int holder(int x)
{
	int y = add_value(x); /* line 22 */
	KEEP_FRAME();
	return y;
}

int main(int argc, char **argv)
{
	(void)argv;
	int y = holder(argc); /* line 30 */
	KEEP_FRAME();
	return y;
}
