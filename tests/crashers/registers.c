/* Dies with values in registers that its argument, a number, decides: N in rbx
 * and r12 to r15, or x19 to x23, each with its place in the top byte, and writes
 * to 0x5eadbe0000 + 16 * N, where nothing is mapped.
 *
 * Dies by SIGSEGV (SEGV_MAPERR, that address, write).
 * Chain: set_and_write main. */
#include <stdint.h>
#include <stdlib.h>

#include "crash.h"

#define VALUE(place) (n | (uint64_t)(place) << 56)

FRAME int set_and_write(uint64_t n)
{
	uint64_t values[5] = { VALUE(1), VALUE(2), VALUE(3), VALUE(4), VALUE(5) };
	uint64_t address = 0x5eadbe0000 + 16 * n;

#if defined(__x86_64__)
	__asm__ volatile(
		"movq 0(%0), %%rbx\n\t"
		"movq 8(%0), %%r12\n\t"
		"movq 16(%0), %%r13\n\t"
		"movq 24(%0), %%r14\n\t"
		"movq 32(%0), %%r15\n\t"
		"movl $1, (%1)"
		:: "a"(values), "d"(address) : "rbx", "r12", "r13", "r14", "r15", "memory");
#elif defined(__aarch64__)
	__asm__ volatile(
		"ldp x19, x20, [%0]\n\t"
		"ldp x21, x22, [%0, #16]\n\t"
		"ldr x23, [%0, #32]\n\t"
		"str wzr, [%1]"
		:: "r"(values), "r"(address) : "x19", "x20", "x21", "x22", "x23", "memory");
#endif
	KEEP_FRAME();
	return 1;
}

int main(int argc, char **argv)
{
	int y = set_and_write(argc > 1 ? strtoull(argv[1], 0, 10) : 0);
	KEEP_FRAME();
	return y & 1;
}
