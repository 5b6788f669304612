/* Writes through a null pointer, and says of itself in debug information that takes
 * minutes to read: each of 10,000 units points at a table of 16,000 abbreviations, and
 * none of them is the one that the unit begins with.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, address 0, write).
 * Chain: main. */
#include "crash.h"

#define UNITS 10000
#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

__asm__(".section .debug_abbrev,\"\",%progbits\n"
	".set code, 1\n"
	".rept 16000\n"
	/* Code, variable, no children, no attributes. */
	"	.set code, code + 1\n"
	"	.uleb128 code\n"
	"	.byte 0x34, 0, 0, 0\n"
	".endr\n"
	"	.byte 0\n"
	".section .debug_info,\"\",%progbits\n"
	".rept " TEXT(UNITS) "\n"
	/* Length, DWARF 4, the table, size of an address, an entry with the code 1. */
	"	.4byte 8\n"
	"	.2byte 4\n"
	"	.4byte 0\n"
	"	.byte 8, 1\n"
	".endr\n"
	".text\n");

int main(void)
{
	*nowhere = 1;
	KEEP_FRAME();
	return 0;
}
