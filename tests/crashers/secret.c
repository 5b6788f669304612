/* secret WORD...: has a text on the heap, its address in a register, and dies.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0x18, read). The text is "in plain sight".
 * Chain: use_secret main. */
#include <stdlib.h>
#include <string.h>

#include "crash.h"

FRAME int use_secret(char *text, int *bad)
{
	int y = bad[6];
	KEEP_FRAME();
	return y + text[0];
}

int main(int argc, char **argv)
{
	char *text = malloc(64);

	(void)argc;
	(void)argv;
	strcpy(text, "in plain sight");
	int y = use_secret(text, nowhere);
	KEEP_FRAME();
	return y & 1;
}
